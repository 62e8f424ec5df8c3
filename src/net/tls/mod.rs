//! TLS towards clients: TLS 1.2 and 1.3, the certificate that fits the name asked for, session tickets with rotating keys,
//! certificates of clients. And the certificate that Doorward itself shows where it is the client. Never what is said over
//! it.

mod client;
mod files;
mod hello;
pub mod names;
mod suites;
pub mod table;

#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::StartHandshake;
use tokio_rustls::server::TlsStream;

use crate::config::settings::{ClientCertificates, Tls, TlsVersion};
use crate::net::listen::Io;
pub use client::ClientCertificate;
use table::Table;

/// What clients may choose by ALPN, dearest first.
const PROTOCOLS: &[&[u8]] = &[b"h2", b"http/1.1"];

/// How long a handshake may take while others wait for its turn.
const PATIENCE: Duration = Duration::from_secs(1);

/// What was agreed and shown as a connection began.
#[derive(Clone, Debug, Default)]
pub struct Handshake {
    /// The host that the client asked for (SNI, RFC 6066 §3), lower case.
    pub server_name: Option<Arc<str>>,
    /// ALPN chose `h2`.
    pub http2: bool,
    /// Verified against `client_ca`.
    pub client: Option<Arc<ClientCertificate>>,
    /// The certificates, one of which was shown.
    pub table: Option<Arc<Table>>,
    /// What was asked of the client.
    pub asked: Option<Arc<Asked>>,
}

/// Which certificates clients are to show.
#[derive(Debug)]
pub struct Asked {
    authorities: RootCertStore,
    required: bool,
}

/// Takes TLS connections, with one set of certificates.
pub struct Acceptor {
    aes: Arc<ServerConfig>,
    /// For clients that would rather have ChaCha20: those without circuits for AES, such as small phones.
    chacha: Arc<ServerConfig>,
    table: Arc<Table>,
    /// The one from before, where it is the same.
    asked: Option<Arc<Asked>>,
    /// None: clients may show certificates, so nothing is resumed.
    tickets: Option<Tickets>,
    turns: Arc<Semaphore>,
    /// All of them.
    handshakes: usize,
}

/// The keys of session tickets, and what has to stay the same for them to be good.
#[derive(Clone)]
struct Tickets {
    ticketer: Arc<dyn ProducesTickets>,
    min_version: TlsVersion,
}

/// Why there is no connection.
pub enum Failed<S> {
    /// The peer said nothing at all.
    Closed,
    /// No TLS but text, such as plain http.
    Text(S),
    Broken(io::Error),
    /// The peer took too long.
    Slow,
    /// Too many handshakes were under way for all of the time.
    Busy,
}

impl Acceptor {
    /// Reads every file and checks that certificates and keys belong together; errors name the file. `handshakes`: how
    /// many may be under way at one time. What `before` has promised goes on: the tickets it gave are good where nothing
    /// but files has changed.
    pub fn new(settings: &Tls, handshakes: usize, before: Option<&Self>) -> io::Result<Self> {
        let table = Arc::new(Table::read(&settings.certificates)?);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let clients = settings.client_certificates.as_ref();
        let asked = clients.map(Asked::read).transpose()?;
        let verifier = match (clients, &asked) {
            (Some(clients), Some(asked)) => verifier(clients, asked, &provider)?,
            _ => WebPkiClientVerifier::no_client_auth(),
        };
        let same =
            before.and_then(|before| before.asked.as_ref()).filter(|same| asked.as_ref().is_some_and(|a| a.is(same)));
        let asked = same.cloned().or_else(|| asked.map(Arc::new));
        let tickets = match clients {
            None => Some(Tickets::new(settings.min_version, before)?),
            // SECURITY: YX-03: whoever resumes a session is taken for who began it, and shows no certificate again.
            Some(_) => None,
        };
        let config = |provider: Arc<CryptoProvider>| {
            let versions = match settings.min_version {
                TlsVersion::Tls12 => &[&TLS13, &TLS12][..],
                TlsVersion::Tls13 => &[&TLS13],
            };
            let builder = ServerConfig::builder_with_provider(provider);
            let builder = builder.with_protocol_versions(versions).map_err(io::Error::other)?;
            let builder = builder.with_client_cert_verifier(Arc::clone(&verifier));
            let mut config = builder.with_cert_resolver(Arc::clone(&table) as _);
            config.ignore_client_order = true;
            config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
            // SECURITY: YX-02: early data can be replayed.
            config.max_early_data_size = 0;
            // PERF: tickets do the same without a table that all workers lock.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            match &tickets {
                Some(tickets) => config.ticketer = Arc::clone(&tickets.ticketer),
                None => config.send_tls13_tickets = 0,
            }
            io::Result::Ok(Arc::new(config))
        };
        let (aes, chacha) = (config(Arc::clone(&provider))?, config(Arc::new(suites::chacha_first(&provider)))?);
        let turns = before.filter(|before| before.handshakes == handshakes).map(|before| Arc::clone(&before.turns));
        let turns = turns.unwrap_or_else(|| Arc::new(Semaphore::new(handshakes)));
        Ok(Self { aes, chacha, table, asked, tickets, turns, handshakes })
    }

    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The whole handshake, which has to be over at `deadline`, waiting for a turn included.
    pub async fn accept<S: Io>(
        &self,
        mut stream: S,
        deadline: Instant,
    ) -> Result<(TlsStream<S>, Handshake), Failed<S>> {
        // SECURITY: YX-11: whoever has said nothing yet takes nobody's turn.
        let accepted = match timeout_at(deadline, hello::read(&mut stream)).await {
            Ok(Ok(accepted)) => accepted,
            Ok(Err(hello::Failed::Closed)) => return Err(Failed::Closed),
            Ok(Err(hello::Failed::Text)) => return Err(Failed::Text(stream)),
            Ok(Err(hello::Failed::Broken(error))) => return Err(Failed::Broken(error)),
            Err(_) => return Err(Failed::Slow),
        };
        let Ok(Ok(_turn)) = timeout_at(deadline, self.turns.acquire()).await else { return Err(Failed::Busy) };
        let config =
            if suites::want_chacha(accepted.client_hello().cipher_suites()) { &self.chacha } else { &self.aes };
        let mut rest = pin!(StartHandshake::from_parts(accepted, stream).into_stream(Arc::clone(config)));
        let done = loop {
            let look = deadline.min(Instant::now() + PATIENCE);
            let done = timeout_at(look, rest.as_mut()).await;
            // SECURITY: YX-11: who says hello and no more keeps its turn only while nobody needs it, which may be later.
            if done.is_ok() || look == deadline || self.turns.available_permits() == 0 {
                break done;
            }
        };
        match done {
            Ok(Ok(stream)) => {
                let handshake = Handshake::of(stream.get_ref().1, self).map_err(Failed::Broken)?;
                Ok((stream, handshake))
            }
            Ok(Err(error)) => Err(Failed::Broken(error)),
            Err(_) => Err(Failed::Slow),
        }
    }
}

impl Tickets {
    fn new(min_version: TlsVersion, before: Option<&Acceptor>) -> io::Result<Self> {
        if let Some(before) = before.and_then(|before| before.tickets.as_ref()).filter(|t| t.min_version == min_version)
        {
            return Ok(before.clone());
        }
        Ok(Self { ticketer: aws_lc_rs::Ticketer::new().map_err(io::Error::other)?, min_version })
    }
}

impl Handshake {
    /// What `connection` says of its handshake, which is complete. Fails where the client's certificate cannot be read.
    fn of(connection: &ServerConnection, by: &Acceptor) -> io::Result<Self> {
        let chain = connection.peer_certificates().filter(|chain| !chain.is_empty());
        let client = chain.map(|chain| ClientCertificate::new(chain.iter().map(|c| c.clone().into_owned()).collect()));
        Ok(Self {
            server_name: connection.server_name().map(|name| Arc::from(name.to_ascii_lowercase())),
            http2: connection.alpn_protocol() == Some(b"h2"),
            client: client.transpose().map_err(io::Error::other)?.map(Arc::new),
            table: Some(Arc::clone(&by.table)),
            asked: by.asked.clone(),
        })
    }

    /// SECURITY: YX-03, BX-07. Whether a client that came now would be asked for the same: what an authority has vouched for
    /// counts only while that one is trusted, on connections that last too. `now`: None = no TLS any more.
    pub fn holds(&self, now: Option<&Acceptor>) -> bool {
        match (&self.asked, now.and_then(|now| now.asked.as_ref())) {
            (None, None) => true,
            (Some(then), Some(now)) => Arc::ptr_eq(then, now),
            _ => false,
        }
    }

    /// See `Table::is_misdirected`.
    pub fn is_misdirected(&self, host: &str) -> bool {
        self.table.as_ref().is_some_and(|table| table.is_misdirected(self.server_name.as_deref(), host))
    }
}

impl Asked {
    fn read(clients: &ClientCertificates) -> io::Result<Self> {
        Ok(Self { authorities: files::authorities(&clients.ca)?, required: clients.required })
    }

    fn is(&self, other: &Self) -> bool {
        self.required == other.required && self.authorities.roots == other.authorities.roots
    }
}

fn verifier(
    clients: &ClientCertificates,
    asked: &Asked,
    provider: &Arc<CryptoProvider>,
) -> io::Result<Arc<dyn ClientCertVerifier>> {
    let roots = Arc::new(asked.authorities.clone());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    let verifier = if asked.required { verifier } else { verifier.allow_unauthenticated() };
    verifier.build().map_err(|e| files::invalid(&clients.ca, &e))
}

/// What Doorward shows of itself where a server asks: certificate and key, which must belong together.
pub fn client_certificate(cert: &Path, key: &Path) -> io::Result<SingleCertAndKey> {
    files::certified(cert, key).map(SingleCertAndKey::from)
}
