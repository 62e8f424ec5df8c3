//! `doorward serve`

use std::path::PathBuf;
use std::process::ExitCode;

use super::{FAILED, MISUSED, ServeArgs, control, fail, misconfigured, sources};
use crate::app::{self, Failure};
use crate::config::Flags;
use crate::net::listen::Inherited;
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
    // Before there is a second thread.
    let inherited = Inherited::take();
    // Nothing is bound before the configuration is valid.
    let (reload, settings) = match sources(config, flags).and_then(Reload::begin) {
        Ok(loaded) => loaded,
        Err(problems) => return misconfigured(&problems),
    };
    log::init(&settings.telemetry);
    control(async {
        match app::run(settings, reload, inherited).await {
            Ok(()) => ExitCode::SUCCESS,
            // A certificate that cannot be read is the configuration's fault.
            Err(failure @ Failure::Tls(_)) => fail(MISUSED, &failure.to_string()),
            Err(failure) => fail(FAILED, &failure.to_string()),
        }
    })
}
