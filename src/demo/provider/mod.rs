//! A small OpenID provider (authorization-code flow with PKCE, refresh, PAR, sign-out, back-channel logout, and what
//! machines use: client credentials, token exchange, password, introspection) for `doorward demo` and for tests, which make it fail through [`Control`].
//!
//! It knows one client and a handful of users, keeps everything in memory, and listens on loopback only. It is not for
//! production and does not try to be: passwords are plain, and a user signs in with one click.

mod account;
mod authorize;
mod claims;
mod client;
mod control;
mod discovery;
mod keys;
mod logout;
mod machine;
mod pages;
mod request;
mod serve;
mod store;
#[cfg(test)]
mod tests;
mod token;

use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use control::{Control, Endpoint, Fault, Outcomes, Stats, Tamper};
pub use keys::SigningAlg;

use super::web::{self, Server};
use crate::secret::Secret;
use control::Dials;
use keys::KeySet;
use store::Store;

#[derive(Clone, Debug)]
pub struct Options {
    pub client_id: String,
    /// `None`: a public client, which proves itself by PKCE alone.
    pub client_secret: Option<Secret>,
    pub redirect_uris: Redirects,
    pub users: Vec<User>,
    pub access_token_ttl: Duration,
    /// Of ID tokens. Both kinds of key are published and both algorithms announced in any case.
    pub alg: SigningAlg,
    /// A refresh token is good once (RFC 9700 §4.14.2); else for as long as its grant.
    pub rotate: bool,
    /// A cookie of the provider keeps people signed in.
    pub sso: bool,
    /// Where the client wants to hear of sign-outs, `http` on this machine; `Control` can add more.
    pub backchannel_logout_uris: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            client_id: "demo".to_owned(),
            client_secret: Some(Secret::new("demo-secret")),
            redirect_uris: Redirects::AnyLoopback,
            users: vec![
                User::new("alice", "Alice Example", &["admins", "staff"]),
                User::new("bob", "Bob Example", &["staff"]),
            ],
            access_token_ttl: Duration::from_secs(300),
            alg: SigningAlg::Rs256,
            rotate: true,
            sso: true,
            backchannel_logout_uris: Vec::new(),
        }
    }
}

impl Options {
    fn user(&self, username: &str) -> Option<&User> {
        self.users.iter().find(|user| user.username == username)
    }
}

/// What a client may name as `redirect_uri`.
#[derive(Clone, Debug)]
pub enum Redirects {
    AnyLoopback,
    List(Vec<String>),
}

#[derive(Clone, Debug)]
pub struct User {
    /// Also the `sub`.
    pub username: String,
    pub password: Secret,
    pub name: String,
    pub email: String,
    pub email_verified: bool,
    pub groups: Vec<String>,
}

impl User {
    /// With the user name as password and a verified address `@example.test`.
    pub fn new(username: &str, name: &str, groups: &[&str]) -> Self {
        Self {
            username: username.to_owned(),
            password: Secret::new(username),
            name: name.to_owned(),
            email: format!("{username}@example.test"),
            email_verified: true,
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
        }
    }
}

/// A running provider. Dropped, it closes the listener and every connection.
pub struct DemoProvider {
    shared: Arc<Shared>,
    _server: Server,
}

impl DemoProvider {
    /// Serves on the current tokio runtime. Refuses a listener that others than this machine can reach.
    pub fn start(listener: TcpListener, options: Options) -> io::Result<Self> {
        let issuer = format!("http://{}", web::loopback(&listener)?);
        let keys = Arc::new(KeySet::generate().map_err(io::Error::other)?);
        if options.alg == SigningAlg::Rs256 {
            let keys = Arc::clone(&keys);
            // Made ahead of its first use; a failure shows there.
            tokio::task::spawn_blocking(move || keys.kid(SigningAlg::Rs256));
        }
        let shared = Arc::new(Shared {
            issuer,
            dials: Mutex::new(Dials::new(&options)),
            options,
            keys: Mutex::new(keys),
            store: Mutex::default(),
            stats: Mutex::default(),
        });
        let handler = {
            let shared = Arc::clone(&shared);
            move |request| serve::handle(Arc::clone(&shared), request)
        };
        Ok(Self { shared, _server: Server::start(listener, handler)? })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn issuer(&self) -> &str {
        &self.shared.issuer
    }

    pub fn stats(&self) -> Stats {
        self.shared.stats().clone()
    }

    pub fn control(&self) -> Control {
        Control(Arc::clone(&self.shared))
    }
}

/// What every request sees. Each lock is held for a moment and never across an await, and no two at once.
struct Shared {
    issuer: String,
    options: Options,
    keys: Mutex<Arc<KeySet>>,
    store: Mutex<Store>,
    dials: Mutex<Dials>,
    stats: Mutex<Stats>,
}

impl Shared {
    fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&lock(&self.keys))
    }

    fn set_keys(&self, keys: Arc<KeySet>) {
        *lock(&self.keys) = keys;
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }

    fn dials(&self) -> MutexGuard<'_, Dials> {
        lock(&self.dials)
    }

    fn stats(&self) -> MutexGuard<'_, Stats> {
        lock(&self.stats)
    }
}

/// What a panicking holder left behind is still good: nothing here is changed in two steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
