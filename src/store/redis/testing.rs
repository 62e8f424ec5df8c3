//! Settings for tests.

use std::time::Duration;

use crate::config::settings::{Redis, RedisServers};

pub(crate) fn settings(servers: RedisServers) -> Redis {
    Redis {
        servers,
        tls: false,
        user: None,
        password: None,
        database: 0,
        ca: None,
        timeout: Duration::from_secs(2),
        key_prefix: "doorward:".to_owned(),
    }
}
