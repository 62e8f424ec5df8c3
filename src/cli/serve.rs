//! `doorward serve`

use std::path::PathBuf;
use std::process::ExitCode;

use super::{FAILED, MISUSED, ServeArgs, control, fail, misconfigured, sources};
use crate::app::{self, Failure};
use crate::config::{Flags, load};
use crate::reload::Reload;
use crate::telemetry::log;

pub(super) fn serve(config: Option<PathBuf>, args: ServeArgs) -> ExitCode {
    let flags = Flags {
        issuer: args.issuer,
        client_id: args.client_id,
        client_secret_file: args.client_secret_file,
        upstream: args.upstream,
        listen: args.listen,
        public_url: args.public_url,
    };
    // Nothing is bound before the configuration is valid.
    let loaded = sources(config, flags).and_then(|sources| load(&sources).map(|settings| (sources, settings)));
    let (sources, settings) = match loaded {
        Ok(loaded) => loaded,
        Err(problems) => return misconfigured(&problems),
    };
    log::init(&settings.telemetry);
    control(async {
        match app::run(settings, Reload(sources)).await {
            Ok(()) => ExitCode::SUCCESS,
            // A certificate that cannot be read is the configuration's fault.
            Err(failure @ Failure::Tls(_)) => fail(MISUSED, &failure.to_string()),
            Err(failure) => fail(FAILED, &failure.to_string()),
        }
    })
}
