//! Commands, exit codes, and what a terminal sees. Exit status: 0 fine, 1 a run-time failure, 2 a configuration or usage
//! error.

mod check;
#[cfg(feature = "demo")]
mod demo;
mod explain;
mod key;
mod live;
mod migrate;
mod serve;

use std::future::Future;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Flags, Problems, Sources, find_file};

/// OpenID Connect sign-in in front of any web application.
#[derive(Parser)]
#[command(name = "doorward", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// The configuration file [default: $DOORWARD_CONFIG, ./doorward.toml, /etc/doorward/doorward.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway (the default command)
    Serve(ServeArgs),
    /// Validate the configuration and print every problem at once
    Check {
        /// Also try discovery and the keys of every provider and issuer, every upstream, and Redis
        #[arg(long)]
        connect: bool,
        /// Only ask the running instance's admin listener whether it lives: 0 if it does, else 1. For health checks of
        /// containers; takes 5 seconds at most
        #[arg(long, conflicts_with = "connect")]
        live: bool,
    },
    /// Try it: an OpenID provider, a sample application and the gateway, on this machine only
    #[cfg(feature = "demo")]
    Demo {
        /// The gateway's port; the provider and the application take the next two
        #[arg(long, default_value_t = 4180)]
        port: u16,
    },
    /// Say what would be done with a request, and why: route, rules, decision, headers upstream. Nothing is sent
    Explain(explain::ExplainArgs),
    /// Print a new session key
    Key,
    /// Write a configuration out of another program's
    Migrate {
        #[command(subcommand)]
        from: migrate::From,
    },
}

/// With these, no file is needed: one provider, one route `/`, a session key made and kept in the state directory.
#[derive(Args, Default)]
struct ServeArgs {
    /// The provider's issuer identifier, as its documentation gives it
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// The client id registered at the provider
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// The file that holds the client secret
    #[arg(long, value_name = "FILE")]
    client_secret_file: Option<PathBuf>,
    /// The application behind the gateway
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// The address to listen on
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// What browsers type
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
}

const FAILED: u8 = 1;
const MISUSED: u8 = 2;

/// Parses the arguments and tells the whole program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.unwrap_or_else(|| Command::Serve(ServeArgs::default())) {
        Command::Serve(args) => serve::serve(cli.config, args),
        Command::Check { live: true, .. } => live::live(cli.config),
        Command::Check { connect, .. } => check::check(cli.config, connect),
        #[cfg(feature = "demo")]
        Command::Demo { port } => demo::demo(port),
        Command::Explain(args) => explain::run(cli.config, &args),
        Command::Key => key::key(),
        Command::Migrate { from } => migrate::run(&from),
    }
}

/// Where the configuration of this invocation comes from.
fn sources(config: Option<PathBuf>, flags: Flags) -> Result<Sources, Problems> {
    let file = find_file(config, &|name| std::env::var(name).ok())?;
    Ok(Sources {
        file,
        env: std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect(),
        flags,
    })
}

/// The control runtime: one thread for providers, signals, reload and the admin listener. The workers have their own.
fn control<F: Future<Output = ExitCode>>(work: F) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => fail(FAILED, &format!("the runtime cannot be started: {error}")),
    }
}

/// One sentence on what is wrong, to stderr.
fn fail(status: u8, message: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "doorward: {message}");
    ExitCode::from(status)
}

fn misconfigured(problems: &Problems) -> ExitCode {
    fail(MISUSED, &format!("the configuration is not valid\n\n{problems}"))
}
