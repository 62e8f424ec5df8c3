//! A site with one store, and sign-ins at it without the provider's part: what is kept is what a provider would have sent.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use doorward::config::settings::{Settings, Store};
use doorward::config::{Sources, load};
use doorward::crypto::random;
use doorward::http::cookie::Found;
use doorward::provider::{self, Provider};
use doorward::secret::Secret;
use doorward::session::data::Begun;
use doorward::session::identity::Identity;
use doorward::session::manager::Sessions;
use doorward::session::state::State;
use http::HeaderMap;
use serde_json::json;
use tempfile::NamedTempFile;
use tokio::runtime::Handle;

use super::redis_server::RedisServer;

pub(crate) const HOST: &str = "app.example.com";
const ISSUER: &str = "https://id.example.com/realms/main";

pub(crate) struct Site {
    pub(crate) store: Store,
    settings: Settings,
    state: Arc<State>,
    pub(crate) sessions: Arc<Sessions>,
    provider: Arc<Provider>,
}

impl Site {
    pub(crate) async fn new(store: &str, redis: Option<&RedisServer>) -> Self {
        let settings = settings(store, redis);
        let provider = Provider::new(&settings.providers[0], &[], None, Handle::current(), Arc::new(|_, _| {}))
            .expect("a provider");
        let state = Arc::new(State::new(Handle::current()));
        let sessions = Arc::new(Sessions::new(&settings.session, &[], Vec::new(), true, Arc::clone(&state)).unwrap());
        let mut patience = 1_000;
        while !sessions.is_store_up() {
            patience -= 1;
            assert!(patience > 0, "the store is not reached");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Self { store: settings.session.store, settings, state, sessions, provider }
    }

    /// The same site after a reload: it has its store, and nothing in hand.
    pub(crate) fn reloaded(&self) -> Arc<Sessions> {
        Arc::new(Sessions::new(&self.settings.session, &[], Vec::new(), true, Arc::clone(&self.state)).unwrap())
    }

    /// Signs in the person of this number; the `Cookie` header that the browser sends from then on.
    pub(crate) async fn sign_in(&self, number: usize) -> String {
        let user = format!("person-{number}");
        let groups: Vec<String> = ["staff", "engineering", "platform", "on-call", "vpn"].map(str::to_owned).into();
        let (access, id) = (jwt(&user, "api", &groups), jwt(&user, "doorward", &groups));
        let fresh = provider::Tokens {
            access: Secret::new(access),
            refresh: Some(Secret::new(URL_SAFE_NO_PAD.encode(random::bytes::<32>()))),
            id: Some(Secret::new(id.clone())),
            expires_in: Some(300),
        };
        let mut tokens = self.sessions.tokens(fresh, None, &self.provider);
        // The provider has an end_session_endpoint: the ID token is its hint.
        tokens.id = Some(Secret::new(id));
        let identity = Identity {
            sub: URL_SAFE_NO_PAD.encode(random::bytes::<16>()),
            email: Some(format!("{user}@example.com")),
            email_verified: true,
            name: Some(format!("Person of Number {number}")),
            preferred_username: Some(user.clone()),
            user,
            groups,
            sid: Some(URL_SAFE_NO_PAD.encode(random::bytes::<16>())),
            ..Identity::default()
        };
        let begun = Begun { browser: "Firefox on Linux".to_owned(), address: Some([192, 0, 2, 7].into()) };
        let session = self.sessions.create(&self.provider, identity, tokens, begun).await.unwrap();
        let none = HeaderMap::new();
        let set = self.sessions.issue(&session, HOST, &Found::scan(&none, self.sessions.name())).unwrap();
        let pairs: Vec<&str> = set.iter().map(|line| line.to_str().unwrap().split(';').next().unwrap()).collect();
        pairs.join("; ")
    }
}

/// About 900 bytes, as RS256 tokens of usual claims are.
fn jwt(user: &str, audience: &str, groups: &[String]) -> String {
    let random = |text: &str| format!("{text}-{}", URL_SAFE_NO_PAD.encode(random::bytes::<16>()));
    let header = json!({ "alg": "RS256", "typ": "JWT", "kid": "the-key-of-this-month" });
    let claims = json!({
        "iss": ISSUER, "sub": random("sub"), "aud": audience, "azp": "doorward", "sid": random("sid"), "jti": random("jti"),
        "iat": 1_790_000_000, "exp": 1_790_000_300, "auth_time": 1_790_000_000, "scope": "openid profile email",
        "preferred_username": user, "email": format!("{user}@example.com"), "email_verified": true, "groups": groups,
    });
    let parts = [header.to_string().into_bytes(), claims.to_string().into_bytes(), random::bytes::<256>().to_vec()];
    parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
}

fn settings(store: &str, redis: Option<&RedisServer>) -> Settings {
    let mut file = NamedTempFile::with_suffix(".toml").unwrap();
    let redis = redis.map(|server| format!("[session.redis]\nurl = \"{}\"", server.url())).unwrap_or_default();
    write!(
        file,
        r#"
[server]
listen = ["127.0.0.1:4180"]
public_url = "https://{HOST}"
[provider.main]
issuer = "{ISSUER}"
client_id = "doorward"
client_secret = "the-secret-of-the-benchmark"
[session]
keys = ["a-session-key-of-the-benchmark-that-is-long-enough"]
store = "{store}"
{redis}
[[route]]
path = "/"
upstream = "http://127.0.0.1:3000"
access = "authenticated"
"#
    )
    .unwrap();
    load(&Sources { file: Some(file.path().to_owned()), ..Sources::default() }).unwrap_or_else(|p| panic!("{p}"))
}
