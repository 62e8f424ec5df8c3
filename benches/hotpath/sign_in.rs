//! The provider that Doorward signs in at, its configuration, and a browser just good enough for one sign-in.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use bytes::Bytes;
use doorward::demo::provider::{DemoProvider, Options};
use http::header::{COOKIE, HOST, LOCATION, SET_COOKIE};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tempfile::NamedTempFile;
use tokio::net::TcpStream;

pub(crate) struct Provider(DemoProvider);

impl Provider {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // No refresh in between: the one cookie that is sent would be an old one then.
        let options = Options { access_token_ttl: Duration::from_secs(24 * 3600), ..Options::default() };
        let provider = DemoProvider::start(listener, options).unwrap();
        provider.control().auto_login(Some("alice"));
        Self(provider)
    }

    pub(crate) fn configuration(&self, listen: SocketAddr, routes: &str, access_log: bool) -> NamedTempFile {
        let mut file = NamedTempFile::with_suffix(".toml").unwrap();
        write!(
            file,
            r#"
[server]
listen = ["{listen}"]
public_url = "http://{listen}"
[provider.main]
issuer = "{issuer}"
client_id = "demo"
client_secret = "demo-secret"
[session]
keys = ["a-session-key-of-the-benchmark-that-is-long-enough"]
[telemetry]
access_log = {access_log}
{routes}
"#,
            issuer = self.0.issuer(),
        )
        .unwrap();
        file
    }

    /// Follows the redirects from a protected page until it answers; returns the Cookie header of the next request.
    pub(crate) async fn sign_in(&self, doorward: SocketAddr) -> String {
        let mut jars: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        let mut uri: Uri = format!("http://{doorward}/").parse().unwrap();
        for _ in 0..10 {
            let authority = uri.authority().unwrap().as_str().to_owned();
            let jar = jars.entry(authority.clone()).or_default();
            let mut answer = fetch(&uri, &header(jar)).await;
            let patience = Instant::now() + Duration::from_secs(60);
            // Under valgrind, it may take a while until the workers listen and the provider's keys are there.
            let unready = |a: &hyper::Result<Response<Incoming>>| {
                !a.as_ref().is_ok_and(|a| a.status() != StatusCode::SERVICE_UNAVAILABLE)
            };
            while unready(&answer) && Instant::now() < patience {
                tokio::time::sleep(Duration::from_millis(20)).await;
                answer = fetch(&uri, &header(jar)).await;
            }
            let response = answer.unwrap();
            // The page's own answer counts too: it takes back the cookie that counts sign-ins, and a request that goes on
            // bringing it is never the same request twice to Doorward.
            for set in response.headers().get_all(SET_COOKIE) {
                let (pair, attributes) = set.to_str().unwrap().split_once(';').unwrap();
                let (name, value) = pair.split_once('=').unwrap();
                match attributes.contains("Max-Age=0") {
                    true => drop(jar.remove(name)),
                    false => drop(jar.insert(name.to_owned(), value.to_owned())),
                }
            }
            if response.status() == StatusCode::OK {
                return header(jar);
            }
            let location = response.headers().get(LOCATION);
            let location = location.unwrap_or_else(|| panic!("{uri} answered {}", response.status())).to_str().unwrap();
            uri = match location.starts_with('/') {
                true => format!("http://{authority}{location}").parse().unwrap(),
                false => location.parse().unwrap(),
            };
        }
        panic!("the sign-in goes round in circles at {uri}");
    }
}

fn header(jar: &BTreeMap<String, String>) -> String {
    jar.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
}

async fn fetch(uri: &Uri, cookie: &str) -> hyper::Result<Response<Incoming>> {
    let authority = uri.authority().unwrap().as_str();
    let stream = TcpStream::connect(authority).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request = Request::get(uri.path_and_query().unwrap().as_str())
        .header(HOST, authority)
        .header("accept", "text/html")
        .header("sec-fetch-mode", "navigate");
    if !cookie.is_empty() {
        request = request.header(COOKIE, cookie);
    }
    sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await
}
