use std::net::Ipv4Addr;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use url::Url;

use super::*;
use crate::crypto::testing::{Signer, ec};
use crate::machine::credentials::Basic;
use crate::provider::testing::{Answer, Op};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const PROVIDER: TokenIssuer = TokenIssuer::Provider(0);

/// One provider and the issuer `ci` that publishes the same keys.
struct World {
    op: Arc<Op>,
    machines: Arc<Machines>,
}

impl World {
    async fn new(refused_per_minute: u32) -> Self {
        let op = Op::new().await;
        let provider = op.provider(|_| {});
        let ci = settings::Issuer {
            name: "ci".into(),
            issuer: "https://ci.example".into(),
            jwks_url: Some(Url::parse(&format!("{}/jwks", op.issuer)).unwrap()),
            audience: vec!["deploy".into()],
            algorithms: vec![],
            clock_skew: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            ca: None,
            insecure: false,
            claims: op.settings().claims,
        };
        let issuer = Issuer::new(&ci, Handle::current(), Arc::new(|_, _| {})).unwrap();
        let machines = Machines {
            providers: vec![provider],
            issuers: vec![issuer],
            kept: vec![],
            custom: vec![],
            denying: vec![],
            known: Bounded::new(KNOWN_BYTES),
            refused: Bounded::new(MOST_REFUSED),
            lookups: Flights::default(),
            limiter: Arc::default(),
            by_user: Rate::default(),
            refused_per_minute,
            control: Handle::current(),
            secret: hmac::Key::new(hmac::HMAC_SHA256, &random::bytes::<32>()),
        };
        Self { op, machines: Arc::new(machines) }
    }

    fn token(&self, kid: &str, changes: Value) -> String {
        let now = clock::unix_now();
        let mut claims = json!({
            "iss": self.op.issuer, "aud": "api", "sub": "alice", "client_id": "app", "iat": now, "exp": now + 600, "jti": "j",
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        ec().sign(&json!({"alg": "ES256", "kid": kid, "typ": "at+jwt"}), &claims)
    }

    /// As a request does it.
    async fn ask(&self, route: &settings::Machine, token: &str) -> Result<Arc<Machine>> {
        let credentials = Credentials::Bearer(token);
        let digest = self.machines.digest(route, &credentials);
        match self.machines.recall(route, &digest, clock::unix_now_ms()) {
            Some(known) => known,
            None => self.machines.judge(route, &credentials, digest, CLIENT).await,
        }
    }

    async fn kind(&self, route: &settings::Machine, token: &str) -> Option<Kind> {
        self.ask(route, token).await.err().map(|e| e.kind())
    }

    fn fetches(&self) -> usize {
        self.op.seen("/jwks").len()
    }
}

fn route(audience: &[&str]) -> settings::Machine {
    settings::Machine {
        issuers: vec![PROVIDER, TokenIssuer::Issuer(0)],
        audience: audience.iter().map(|&aud| aud.to_owned()).collect(),
        introspect: None,
        basic: None,
        resource_metadata: true,
        rfc9068: false,
    }
}

#[tokio::test]
async fn d_08_a_thousand_requests_are_one_fetch_of_keys() {
    let world = World::new(600).await;
    let (route, token) = (route(&["api"]), world.token("e", json!({})));
    let all = join_all((0..1_000).map(|_| world.ask(&route, &token))).await;
    assert!(all.iter().all(|one| one.as_ref().is_ok_and(|machine| machine.name() == "alice")));
    assert_eq!(world.fetches(), 1);
}

#[tokio::test]
async fn jx_08_jx_09_ten_thousand_unknown_key_ids_are_one_more_fetch_and_good_tokens_go_on() {
    let world = World::new(u32::MAX).await;
    let (route, good) = (route(&["api"]), world.token("e", json!({})));
    assert_eq!(world.kind(&route, &good).await, None);
    let bad: Vec<String> = (0..10_000).map(|n| world.token(&format!("k{n}"), json!({}))).collect();
    for token in &bad {
        assert_eq!(world.kind(&route, token).await, Some(Kind::Token));
    }
    assert_eq!(world.fetches(), 2);
    assert_eq!(world.kind(&route, &good).await, None);
    assert_eq!(world.kind(&route, &world.token("e", json!({"jti": "other"}))).await, None);
}

#[tokio::test]
async fn d_08_an_unknown_key_id_while_the_keys_are_away_is_no_verdict() {
    let world = World::new(600).await;
    let route = route(&["api"]);
    world.op.put("/jwks", Answer::json(500, ""));
    assert_eq!(world.kind(&route, &world.token("e", json!({}))).await, Some(Kind::KeysUnavailable));
    let world = World::new(600).await;
    assert_eq!(world.kind(&route, &world.token("e", json!({}))).await, None);
    world.op.put("/jwks", Answer::json(200, "no key set"));
    for _ in 0..3 {
        assert_eq!(world.kind(&route, &world.token("new", json!({}))).await, Some(Kind::KeysUnavailable));
    }
    assert_eq!(world.fetches(), 2);
}

#[tokio::test]
async fn at_01_b_16_jx_14_the_audience_is_asked_for_each_route() {
    let world = World::new(600).await;
    let token = world.token("e", json!({"aud": ["api", "other"]}));
    assert_eq!(world.kind(&route(&["api"]), &token).await, None);
    assert_eq!(world.kind(&route(&["x", "other"]), &token).await, None);
    for audience in [&["API"][..], &["ap"], &["api2"], &["*"], &[], &["https://api"]] {
        assert_eq!(world.kind(&route(audience), &token).await, Some(Kind::Token), "{audience:?}, known already");
        let unknown = world.token("e", json!({"aud": ["api", "other"], "jti": audience}));
        assert_eq!(world.kind(&route(audience), &unknown).await, Some(Kind::Token), "{audience:?}");
    }
}

#[tokio::test]
async fn at_01_an_issuer_counts_where_the_route_names_it_and_nowhere_else() {
    let world = World::new(600).await;
    let ours = world.token("e", json!({"iss": "https://ci.example", "aud": ["deploy", "api"]}));
    assert_eq!(world.kind(&route(&[]), &ours).await, None, "the section's audience is enough");
    assert_eq!(world.kind(&route(&["api"]), &ours).await, None);
    assert_eq!(world.kind(&route(&["billing"]), &ours).await, Some(Kind::Token), "and the route's, where it has one");
    let elsewhere = settings::Machine { issuers: vec![PROVIDER], ..route(&["api"]) };
    assert_eq!(world.kind(&elsewhere, &ours).await, Some(Kind::Token), "known, and of an issuer that is none here");
    let foreign = world.token("e", json!({"iss": "https://ci.example", "aud": "api"}));
    assert_eq!(world.kind(&route(&["api"]), &foreign).await, Some(Kind::Token));
    for iss in [json!("https://other.example"), json!(null), json!(["https://ci.example"])] {
        assert_eq!(
            world.kind(&route(&["api"]), &world.token("e", json!({"iss": iss}))).await,
            Some(Kind::Token),
            "{iss}"
        );
    }
}

#[tokio::test]
async fn at_02_a_route_can_ask_for_rfc_9068() {
    let world = World::new(600).await;
    let now = clock::unix_now();
    let claims = json!({"iss": world.op.issuer, "aud": "api", "sub": "alice", "exp": now + 60});
    let plain = ec().sign(&json!({"alg": "ES256", "kid": "e", "typ": "JWT"}), &claims);
    assert_eq!(world.kind(&route(&["api"]), &plain).await, None);
    let strict = settings::Machine { rfc9068: true, ..route(&["api"]) };
    assert_eq!(world.kind(&strict, &plain).await, Some(Kind::Token), "known already");
    assert_eq!(world.kind(&strict, &world.token("e", json!({}))).await, None);
}

#[tokio::test]
async fn jx_18_what_is_remembered_is_over_when_the_token_is() {
    let world = World::new(600).await;
    let (route, token) = (route(&["api"]), world.token("e", json!({})));
    let machine = world.ask(&route, &token).await.unwrap();
    let digest = world.machines.digest(&route, &Credentials::Bearer(&token));
    assert!(world.machines.recall(&route, &digest, machine.expires_ms - 1).is_some());
    assert!(world.machines.recall(&route, &digest, machine.expires_ms).is_none());
    let expired = world.token("e", json!({"exp": clock::unix_now() - 31}));
    assert_eq!(world.kind(&route, &expired).await, Some(Kind::Token));
}

#[tokio::test]
async fn jx_20_a_key_that_is_taken_out_ends_what_it_signed() {
    let world = World::new(600).await;
    let (route, token) = (route(&["api"]), world.token("e", json!({})));
    assert_eq!(world.kind(&route, &token).await, None);
    world.op.keys(&[Signer::new_ec().jwk("next")]);
    world.machines.providers[0].load().await.unwrap();
    // The other half of the bound: what is remembered is believed no longer than this.
    assert!(BELIEVED <= Duration::from_secs(300));
    world.machines.known.clear();
    assert_eq!(world.kind(&route, &token).await, Some(Kind::Token));
}

#[tokio::test]
async fn jx_21_a_bad_token_spoils_no_good_one() {
    let world = World::new(600).await;
    let route = route(&["api"]);
    let good = world.token("e", json!({}));
    let (message, _) = good.rsplit_once('.').unwrap();
    assert_eq!(world.kind(&route, &format!("{message}.AAAA")).await, Some(Kind::Token));
    assert_eq!(world.kind(&route, &good).await, None);
    assert_eq!(world.kind(&route, &format!("{message}.AAAA")).await, Some(Kind::Token), "and the other way round");
}

#[tokio::test]
async fn bx_10_whoever_has_too_many_refused_is_not_verified_and_who_is_known_goes_on() {
    let world = World::new(5).await;
    let (route, good) = (route(&["api"]), world.token("e", json!({})));
    assert_eq!(world.kind(&route, &good).await, None);
    for n in 0..5 {
        assert_eq!(world.kind(&route, &format!("opaque{n}")).await, Some(Kind::Token));
    }
    let other = world.token("e", json!({"jti": "unknown"}));
    assert_eq!(world.kind(&route, &other).await, Some(Kind::RateLimited));
    assert_eq!(world.kind(&route, &good).await, None, "known already");
    let (credentials, elsewhere) = (Credentials::Bearer(&other), IpAddr::from([192, 0, 2, 2]));
    let digest = world.machines.digest(&route, &credentials);
    assert!(world.machines.judge(&route, &credentials, digest, elsewhere).await.is_ok(), "another address");
}

#[tokio::test]
async fn jx_30_an_opaque_token_is_refused_and_nobody_is_asked() {
    let world = World::new(600).await;
    for token in ["opaque", "ya29.a0AfB_by", "v4.public.eyJ", "a.b.c", "a.b.c.d.e"] {
        assert_eq!(world.kind(&route(&["api"]), token).await, Some(Kind::Token), "{token}");
    }
    assert_eq!(world.fetches() + world.op.seen("/introspect").len(), 0);
}

/// The same world, whose providers 0 and 1 say so of every token.
async fn asking(said: [Value; 2], refused_per_minute: u32) -> (World, Arc<Op>) {
    let mut world = World::new(refused_per_minute).await;
    let other = Op::new().await;
    for (op, said) in [(&world.op, &said[0]), (&other, &said[1])] {
        op.discovery(json!({"introspection_endpoint": format!("{}/introspect", op.issuer)}));
        op.put("/introspect", Answer::json(200, said));
    }
    let second = other.provider(|_| {});
    Arc::get_mut(&mut world.machines).unwrap().providers.push(second);
    (world, other)
}

fn introspecting(provider: usize) -> settings::Machine {
    settings::Machine { introspect: Some(provider), ..route(&["api"]) }
}

#[tokio::test]
async fn in_01_in_03_many_that_wait_are_one_call_and_none_of_them_counts_as_refused() {
    let good = json!({"active": true, "sub": "alice", "aud": "api", "client_id": "app"});
    let (world, _other) = asking([good, json!({})], 5).await;
    let route = introspecting(0);
    let all = join_all((0..1_000).map(|_| world.ask(&route, "opaque"))).await;
    assert!(all.iter().all(Result::is_ok));
    let seen = world.op.seen("/introspect");
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].form["token"].as_str(), seen[0].headers.contains_key("authorization")), ("opaque", true));
}

#[tokio::test]
async fn bx_04_what_one_provider_says_of_a_token_is_nothing_to_another() {
    let good = json!({"active": true, "sub": "alice", "aud": "api", "client_id": "app"});
    let (world, other) = asking([json!({"active": false}), good], 600).await;
    let (first, second) = (introspecting(0), introspecting(1));
    for _ in 0..3 {
        assert_eq!(world.kind(&first, "opaque").await, Some(Kind::Token));
        assert_eq!(world.kind(&second, "opaque").await, None);
        assert_eq!(world.kind(&route(&["api"]), "opaque").await, Some(Kind::Token), "nobody is asked here");
    }
    assert_eq!((world.op.seen("/introspect").len(), other.seen("/introspect").len()), (1, 1));
}

#[tokio::test]
async fn bx_10_tokens_that_a_provider_refuses_are_counted_before_it_is_asked() {
    let (world, _other) = asking([json!({"active": false}), json!({})], 5).await;
    let (route, tokens) = (introspecting(0), (0..50).map(|n| format!("opaque{n}")).collect::<Vec<_>>());
    let all = join_all(tokens.iter().map(|token| world.kind(&route, token))).await;
    assert_eq!(all.iter().filter(|kind| **kind == Some(Kind::Token)).count(), 5);
    assert_eq!(all.iter().filter(|kind| **kind == Some(Kind::RateLimited)).count(), 45);
    assert_eq!(world.op.seen("/introspect").len(), 5);
}

#[tokio::test]
async fn bx_06_a_route_waits_for_no_answer_of_a_provider_that_it_does_not_ask() {
    let good = json!({"active": true, "sub": "alice", "aud": "api", "client_id": "app"});
    let (world, other) = asking([good, json!({"active": false})], 600).await;
    let hangs = Answer { hangs: true, ..Answer::json(200, "") };
    world.op.put("/introspect", hangs);
    let (first, second) = (introspecting(0), introspecting(1));
    tokio::select! {
        _ = world.ask(&first, "opaque") => panic!("it hangs"),
        outcome = async {
            while world.op.seen("/introspect").is_empty() {
                tokio::task::yield_now().await;
            }
            world.kind(&second, "opaque").await
        } => assert_eq!(outcome, Some(Kind::Token)),
    }
    assert_eq!(other.seen("/introspect").len(), 1);
}

#[tokio::test]
async fn at_01_what_was_looked_up_elsewhere_is_judged_by_its_signature_where_that_decides() {
    let good = json!({"active": true, "sub": "alice", "aud": "api", "client_id": "app"});
    let (world, _other) = asking([good, json!({})], 600).await;
    let claims = json!({"iss": world.op.issuer, "aud": "api", "sub": "alice", "exp": clock::unix_now() + 60});
    let plain = ec().sign(&json!({"alg": "ES256", "kid": "e", "typ": "JWT"}), &claims);
    let only_asks = settings::Machine { issuers: vec![], ..introspecting(0) };
    let strict = settings::Machine { rfc9068: true, ..introspecting(0) };
    assert_eq!(world.kind(&only_asks, &plain).await, None);
    assert_eq!(world.kind(&strict, &plain).await, Some(Kind::Token), "no at+jwt");
    assert_eq!(world.kind(&strict, "opaque").await, None);
    assert_eq!(world.kind(&only_asks, "opaque").await, None);
    assert_eq!(world.op.seen("/introspect").len(), 2, "an opaque token is known on both");
}

/// What comes of this user name and password on a route that asks provider 0.
async fn password(world: &World, route: &settings::Machine, user: &str, password: &str) -> Option<Kind> {
    let basic = Basic { user: user.to_owned(), password: Secret::new(password) };
    let credentials = Credentials::Basic(basic);
    let digest = world.machines.digest(route, &credentials);
    world.machines.judge(route, &credentials, digest, CLIENT).await.err().map(|e| e.kind())
}

#[tokio::test]
async fn bx_10_a_user_is_one_user_in_every_spelling() {
    let world = World::new(600).await;
    let route = settings::Machine { basic: Some(0), ..route(&["api"]) };
    world.op.put("/token", Answer::json(400, json!({"error": "invalid_grant"})));
    let spellings = ["alice", "Alice", "ALICE", " alice", "alice "];
    let kinds: Vec<_> =
        join_all((0..15).map(|n| password(&world, &route, spellings[n % 5], ["a", "b", "c"][n / 5]))).await;
    assert_eq!(kinds.iter().filter(|kind| **kind == Some(Kind::RateLimited)).count(), 5, "{kinds:?}");
}

#[tokio::test]
async fn in_03_a_providers_own_trouble_is_no_wrong_password() {
    let world = World::new(600).await;
    let route = settings::Machine { basic: Some(0), ..route(&["api"]) };
    for code in ["temporarily_unavailable", "server_error", "invalid_client"] {
        world.op.put("/token", Answer::json(400, json!({ "error": code })));
        assert_eq!(password(&world, &route, "alice", "alice").await, Some(Kind::ProviderUnavailable), "{code}");
    }
    world.op.put("/token", Answer::json(400, json!({"error": "mfa_required"})));
    assert_eq!(password(&world, &route, "alice", "alice").await, Some(Kind::Token));
}

#[tokio::test]
async fn in_01_the_token_that_a_password_gave_is_shown_to_no_other_provider() {
    let good = json!({"active": true, "sub": "mallory", "aud": "api", "client_id": "app"});
    let (world, other) = asking([json!({"active": false}), good], 600).await;
    world.op.put("/token", Answer::json(200, json!({"access_token": "opaque", "token_type": "Bearer"})));
    let elsewhere = settings::Machine { basic: Some(0), ..introspecting(1) };
    assert_eq!(password(&world, &elsewhere, "alice", "alice").await, Some(Kind::Token));
    assert_eq!(other.seen("/introspect").len(), 0);
}

#[tokio::test]
async fn d_07_the_next_fetch_of_keys_is_when_the_key_set_says_within_bounds() {
    let op = Op::new().await;
    let answer = |cache: &str| {
        let mut answer = Answer::json(200, json!({"keys": [ec().jwk("e")]}));
        answer.headers.push(("cache-control", cache.to_owned()));
        answer
    };
    for (cache, seconds) in [
        ("public, max-age=7200", 7_200),
        ("max-age=5", 300),
        ("Max-Age=99999999", 86_400),
        ("no-cache", 3_600),
        ("max-age=x", 3_600),
    ] {
        op.put("/jwks", answer(cache));
        let provider = op.provider(|_| {});
        provider.load().await.unwrap();
        assert_eq!(provider.keys_good_for(), Duration::from_secs(seconds), "{cache}");
    }
}
