//! How a connection is made: to one server, to the master that sentinels name, or to a cluster. Knows nothing of when.

use std::path::Path;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, RedisResult, TlsCertificates, TlsMode, Value, cmd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::config::settings::{self, RedisServers};
use crate::error::{Error, Kind, Result};

/// Where to connect to, and how.
pub(super) enum Plan {
    One(Client),
    Sentinel {
        sentinels: Vec<ConnectionAddr>,
        master: String,
        login: RedisConnectionInfo,
        certificates: Option<TlsCertificates>,
    },
    Cluster {
        client: Box<ClusterClient>,
        nodes: Vec<Client>,
    },
}

impl Plan {
    pub(super) fn new(settings: &settings::Redis) -> Result<Self> {
        if settings.tls {
            // The redis crate takes the process's default. An error only says that there is one already.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let certificates = settings.ca.as_deref().map(certificates).transpose()?;
        Self::with(settings, certificates)
            .map_err(|error| Error::new(Kind::Internal, "session.redis cannot be used").because(error))
    }

    fn with(settings: &settings::Redis, certificates: Option<TlsCertificates>) -> RedisResult<Self> {
        let login = login(settings);
        let address = |(host, port): &(String, u16)| match settings.tls {
            true => ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None },
            false => ConnectionAddr::Tcp(host.clone(), *port),
        };
        let info = |address: ConnectionAddr| -> RedisResult<ConnectionInfo> {
            Ok(address.into_connection_info()?.set_redis_settings(login.clone()))
        };
        let client = |address: ConnectionAddr| match &certificates {
            Some(certificates) => Client::build_with_tls(info(address)?, certificates.clone()),
            None => Client::open(info(address)?),
        };
        Ok(match &settings.servers {
            RedisServers::One(host, port) => Self::One(client(address(&(host.clone(), *port)))?),
            RedisServers::Unix(path) => Self::One(client(ConnectionAddr::Unix(path.clone()))?),
            RedisServers::Sentinel { sentinels, master } => Self::Sentinel {
                sentinels: sentinels.iter().map(address).collect(),
                master: master.clone(),
                login,
                certificates,
            },
            RedisServers::Cluster(hosts) => {
                let nodes = hosts.iter().map(|host| info(address(host))).collect::<RedisResult<Vec<_>>>()?;
                // Its own retries stay within a call's time: a moved slot, a node that is just being replaced.
                let builder = ClusterClientBuilder::new(nodes)
                    .retries(4)
                    .min_retry_wait(20)
                    .max_retry_wait(400)
                    .connection_timeout(settings.timeout)
                    .response_timeout(settings.timeout);
                let builder = match &certificates {
                    Some(certificates) => builder.certs(certificates.clone()),
                    None => builder,
                };
                let nodes = hosts.iter().map(|host| client(address(host))).collect::<RedisResult<_>>()?;
                Self::Cluster { client: Box::new(builder.build()?), nodes }
            }
        })
    }

    /// A connection for commands that has answered once.
    pub(super) async fn connect(&self) -> RedisResult<Connection> {
        let client = match self {
            Self::One(client) => client.clone(),
            Self::Sentinel { .. } => self.master().await?,
            Self::Cluster { client, .. } => return Ok(Connection::Cluster(client.get_async_connection().await?)),
        };
        // The time of a call is the caller's to watch.
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        cmd("PING").exec_async(&mut connection).await?;
        Ok(Connection::One(connection))
    }

    /// A connection that listens to `channels`.
    pub(super) async fn subscribe(&self, channels: &[&str], each: Duration) -> RedisResult<PubSub> {
        match self {
            Self::One(client) => listen(client, channels).await,
            Self::Sentinel { .. } => listen(&self.master().await?, channels).await,
            // The nodes of a cluster pass on to each other what is published.
            Self::Cluster { nodes, .. } => {
                let mut failure = RedisError::from((ErrorKind::Client, "no node of the cluster can be listened to"));
                let first = fastrand::usize(..nodes.len().max(1));
                for node in nodes.iter().cycle().skip(first).take(nodes.len()) {
                    match tokio::time::timeout(each, listen(node, channels)).await {
                        Ok(Ok(heard)) => return Ok(heard),
                        Ok(Err(error)) => failure = error,
                        Err(_) => {}
                    }
                }
                Err(failure)
            }
        }
    }

    /// Asked anew each time: after a failover it is another.
    async fn master(&self) -> RedisResult<Client> {
        let Self::Sentinel { sentinels, master, login, certificates } = self else {
            return Err(RedisError::from((ErrorKind::InvalidClientConfig, "no sentinel is named")));
        };
        let mut builder = SentinelClientBuilder::new(sentinels.clone(), master, SentinelServerType::Master)?
            .set_client_to_redis_db(login.db());
        if let Some(user) = login.username() {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = login.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if sentinels.iter().any(|sentinel| matches!(sentinel, ConnectionAddr::TcpTls { .. })) {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        }
        if let Some(certificates) = certificates {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates.clone());
        }
        builder.build()?.async_get_client().await
    }
}

/// Cheap to clone; commands of all clones share the wire.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    pub(super) async fn ask(mut self, command: Cmd) -> RedisResult<Value> {
        let value = match &mut self {
            Self::One(connection) => connection.req_packed_command(&command).await?,
            Self::Cluster(connection) => connection.req_packed_command(&command).await?,
        };
        value.extract_error()
    }

    /// Publishes by the node that `route` belongs to. All that replicas tell each other goes by one node, and so do the
    /// heartbeats: what they prove holds for the events too.
    pub(super) async fn publish(self, route: &str, channel: &str, payload: &[u8]) -> RedisResult<()> {
        let mut command = cmd("PUBLISH");
        command.arg(channel).arg(payload);
        match self {
            Self::One(_) => self.ask(command).await.map(drop),
            Self::Cluster(mut connection) => {
                let node = SingleNodeRoutingInfo::SpecificNode(Route::with_key(route, SlotAddr::Master));
                connection.route_command(command, RoutingInfo::SingleNode(node)).await?.extract_error().map(drop)
            }
        }
    }

    /// Whether it mends itself, node by node, so that one dead node is no reason to drop it.
    pub(super) fn heals(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }
}

async fn listen(client: &Client, channels: &[&str]) -> RedisResult<PubSub> {
    let mut heard = client.get_async_pubsub().await?;
    heard.subscribe(channels).await?;
    Ok(heard)
}

fn login(settings: &settings::Redis) -> RedisConnectionInfo {
    // Old servers know no CLIENT SETINFO, and a user may lack the right to it.
    let login = RedisConnectionInfo::default().set_db(i64::from(settings.database)).set_skip_set_lib_name();
    let login = match &settings.user {
        Some(user) => login.set_username(user),
        None => login,
    };
    match &settings.password {
        Some(password) => login.set_password(password.expose()),
        None => login,
    }
}

fn certificates(path: &Path) -> Result<TlsCertificates> {
    let what = |why: &str| format!("session.redis.ca: {}: {why}", path.display());
    let pem = std::fs::read(path).map_err(|e| Error::new(Kind::Internal, what("cannot be read")).because(e))?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<std::result::Result<Vec<_>, _>>();
    match found {
        Ok(found) if !found.is_empty() => Ok(TlsCertificates { client_tls: None, root_cert: Some(pem) }),
        _ => Err(Error::new(Kind::Internal, what("holds no certificate in PEM"))),
    }
}
