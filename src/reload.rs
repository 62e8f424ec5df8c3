//! Reload: the configuration is read again, checked whole, and swapped in; on any error the old one stays. On a signal, or
//! when a file that it was read from holds something else.

mod files;

use std::time::Duration;

use tokio::task::spawn_blocking;

use crate::app::Running;
use crate::audit;
use crate::config::settings::Settings;
use crate::config::{Problems, Sources, load};
use crate::server::systemd;
use files::Contents;

/// Where the configuration came from, and what was read there the last time, good or bad.
pub struct Reload {
    sources: Sources,
    read: Contents,
}

impl Reload {
    /// Reads the configuration for the first time.
    pub fn begin(sources: Sources) -> Result<(Self, Settings), Problems> {
        let (loaded, read) = read(&sources);
        Ok((Self { sources, read }, loaded?))
    }

    /// Returns when what was read is no longer what is there.
    pub async fn changed(&self, interval: Duration) {
        self.read.changed(interval).await;
    }

    pub async fn run(&mut self, running: &mut Running) {
        systemd::reloading();
        let sources = self.sources.clone();
        let outcome = match spawn_blocking(move || read(&sources)).await {
            Err(_) => Err("it could not be read".to_owned()),
            Ok((loaded, read)) => {
                // Bad or good: the same text is not tried, and not complained of, twice.
                self.read = read;
                match loaded {
                    Err(problems) => Err(problems.to_string()),
                    Ok(settings) => running.replace(settings).await.map_err(|failure| failure.to_string()),
                }
            }
        };
        let shared = &running.shared;
        match outcome {
            Ok(()) => {
                shared.metrics.reload(true);
                tracing::info!("the configuration was read again and is in use");
                audit!(event = "reload", outcome = "ok");
            }
            Err(error) => {
                shared.metrics.reload(false);
                tracing::error!(%error, "the new configuration is not valid; the old one stays");
                audit!(event = "reload", outcome = "error");
            }
        }
        systemd::ready(&running.status());
    }
}

/// The configuration, and what the files held that it was read from: looked at before they are read, so that what
/// changes in between differs the next time.
fn read(sources: &Sources) -> (Result<Settings, Problems>, Contents) {
    let files = match load(sources) {
        Ok(settings) => settings.files.0,
        Err(problems) => problems.files().to_vec(),
    };
    let contents = Contents::of(&files);
    (load(sources), contents)
}
