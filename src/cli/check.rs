//! `doorward check`

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use super::{FAILED, MISUSED, control, fail, misconfigured, sources};
use crate::app;
use crate::config::settings::{Access, HostMatch, Provider, Route, Settings, Target};
use crate::config::{Flags, load};
use crate::http::origin::Origin;
use crate::provider::{self, dpop_key};
use crate::store::redis::Redis;
use crate::store::{Event, Listener};
use crate::upstream;

pub(super) fn check(config: Option<PathBuf>, connect: bool) -> ExitCode {
    let loaded = sources(config, Flags::default()).and_then(|sources| load(&sources));
    let settings = match loaded {
        Ok(settings) => settings,
        Err(problems) => return misconfigured(&problems),
    };
    let mut out = std::io::stdout();
    // What a start and a reload do, but for what others would notice.
    let tried = control(async {
        match app::try_out(settings.clone()) {
            Err(failure) => return fail(MISUSED, &failure.to_string()),
            Ok(warnings) => warnings.iter().for_each(|warning| drop(writeln!(out, "warning: {warning}"))),
        }
        ExitCode::SUCCESS
    });
    if tried != ExitCode::SUCCESS {
        return tried;
    }
    let _ = writeln!(
        out,
        "the configuration is valid: {} route(s), {} provider(s), {}",
        settings.routes.len(),
        settings.providers.len(),
        settings.server.public_url
    );
    for line in redirect_uris(&settings) {
        let _ = writeln!(out, "{line}");
    }
    if connect { control(try_all(&settings)) } else { ExitCode::SUCCESS }
}

/// What to register at each provider, a line each: the callback of every host where people sign in.
fn redirect_uris(settings: &Settings) -> Vec<String> {
    let public = &settings.server.public_url;
    let mut origins = vec![public.clone()];
    let asks = |route: &&Route| !matches!(route.access, Access::Public | Access::Deny);
    for route in settings.routes.iter().filter(asks).filter(|_| !settings.session.hand_over) {
        let host = match &route.host {
            HostMatch::Any => continue,
            HostMatch::Exact(host) => host.clone(),
            HostMatch::Wildcard(rest) => format!("*.{rest}"),
        };
        let origin = Origin::new(public.scheme(), host, public.port());
        if !origins.contains(&origin) {
            origins.push(origin);
        }
    }
    let of = |provider: &Provider| {
        let (name, path) = (&provider.name, provider.callback_path(&settings.server.prefix));
        origins.iter().map(|origin| format!("redirect URI of provider {name}: {origin}{path}")).collect::<Vec<_>>()
    };
    settings.providers.iter().flat_map(of).collect()
}

/// Asks everything that the configuration names, and prints a line for each.
async fn try_all(settings: &Settings) -> ExitCode {
    let mut failed = false;
    let mut say = |what: String, result: Result<(), String>| {
        let line = match &result {
            Ok(()) => format!("ok      {what}"),
            Err(why) => format!("FAILED  {what}: {why}"),
        };
        failed |= result.is_err();
        let _ = writeln!(std::io::stdout(), "{line}");
    };
    for provider in &settings.providers {
        let name = format!("provider {} ({})", provider.name, provider.issuer);
        let key = dpop_key(provider, &settings.session.keys);
        let made = provider::Provider::new(provider, &[], key, tokio::runtime::Handle::current(), Arc::new(|_, _| {}));
        match made {
            Err(error) => say(name, Err(error.to_string())),
            Ok(made) => {
                let loaded = made.load().await;
                say(name, loaded.map_err(|error| error.to_string()));
            }
        }
    }
    for issuer in &settings.issuers {
        let loaded = match provider::Issuer::new(issuer, tokio::runtime::Handle::current(), Arc::new(|_, _| {})) {
            Ok(made) => made.load().await,
            Err(error) => Err(error),
        };
        say(format!("issuer {} ({})", issuer.name, issuer.issuer), loaded.map_err(|error| error.to_string()));
    }
    for route in &settings.routes {
        for target in route.upstream.targets.iter().filter(|target| !matches!(target, Target::Status(_))) {
            let reached = upstream::probe(target, &route.upstream.options).await;
            say(format!("upstream {target} of route {}", route.name), reached.map_err(|error| error.to_string()));
        }
    }
    if let Some(redis) = &settings.session.redis {
        let started = Redis::start(redis, tokio::runtime::Handle::current(), Arc::new(Deaf));
        let tried = match started {
            Ok(store) => store.probe().await,
            Err(error) => Err(error),
        };
        say(format!("redis ({})", redis.servers), tried.map_err(|error| error.to_string()));
    }
    if failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS }
}

/// Keeps nothing that an event could concern.
struct Deaf;

impl Listener for Deaf {
    fn heard(&self, _: Event) {}

    fn missed(&self) {}
}
