//! `doorward explain`

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::{FAILED, MISUSED, control, fail, misconfigured, sources};
use crate::app;
use crate::config::settings::Settings;
use crate::config::{Flags, certificate, load};
use crate::gateway::explain::{Caller, Explanation, Kind, Outcome, Question, Voucher, explain};

/// A claims file holds one token's claims.
const CLAIMS_BYTES: u64 = 1 << 20;

#[derive(Args)]
pub(super) struct ExplainArgs {
    /// The address as a client would ask for it, or a path of public_url
    url: String,
    /// The request's method
    #[arg(long, short = 'X', default_value = "GET")]
    method: String,
    /// A JSON file with the claims of whoever asks, as their ID token or access token has them [default: nobody has signed in]
    #[arg(long, value_name = "FILE")]
    claims: Option<PathBuf>,
    /// The [provider.NAME] that signed them in, where several could have
    #[arg(long, value_name = "NAME", requires = "claims")]
    provider: Option<String>,
    /// The [issuer.NAME] or [provider.NAME] whose token this is, of a machine, where the claims do not say so
    #[arg(long, value_name = "NAME", requires = "claims", conflicts_with = "provider")]
    issuer: Option<String>,
    /// The client's address
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    address: IpAddr,
    /// A name in the certificate that the client shows, as rules write it: dns:build.example.com; may be repeated
    #[arg(long, value_name = "NAME")]
    certificate: Vec<String>,
    /// A header of the request, as "Name: value"; may be repeated
    #[arg(long = "header", short = 'H', value_name = "HEADER")]
    headers: Vec<String>,
    /// Print JSON, with the field names that docs/policy.md gives
    #[arg(long)]
    json: bool,
}

pub(super) fn run(config: Option<PathBuf>, args: &ExplainArgs) -> ExitCode {
    let settings = match sources(config, Flags::default()).and_then(|sources| load(&sources)) {
        Ok(settings) => settings,
        Err(problems) => return misconfigured(&problems),
    };
    let question = match question(args, &settings) {
        Ok(question) => question,
        Err(message) => return fail(MISUSED, &message),
    };
    control(async {
        let gateway = match app::unserved(settings) {
            Ok(gateway) => gateway,
            Err(failure) => return fail(MISUSED, &failure.to_string()),
        };
        let text = match explain(&gateway, question).await {
            Err(message) => return fail(MISUSED, &message),
            Ok(explanation) if args.json => serde_json::to_string_pretty(&explanation).map(|text| text + "\n"),
            Ok(explanation) => Ok(told(&explanation)),
        };
        let written = text.map_err(std::io::Error::from).and_then(|text| std::io::stdout().write_all(text.as_bytes()));
        match written {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(FAILED, &format!("the explanation cannot be written: {error}")),
        }
    })
}

fn question(args: &ExplainArgs, settings: &Settings) -> Result<Question, String> {
    let (authority, target) = split(&args.url, settings)?;
    let target = target.try_into().map_err(|_| {
        format!("{target:?} cannot stand in a request; percent-encode what is no letter, digit or one of -._~/?&=")
    })?;
    let method = Method::from_bytes(args.method.as_bytes()).map_err(|_| format!("{:?} is no method", args.method))?;
    let claims = args.claims.as_deref().map(claims).transpose()?;
    let voucher = match (&args.provider, &args.issuer) {
        (Some(name), _) => Voucher::Provider(name.clone()),
        (None, Some(name)) => Voucher::Issuer(name.clone()),
        (None, None) => Voucher::Guess,
    };
    if let Some(name) = &args.issuer
        && !settings
            .issuers
            .iter()
            .map(|i| &i.name)
            .chain(settings.providers.iter().map(|p| &p.name))
            .any(|n| n == name)
    {
        return Err(format!("there is no [issuer.{name}] and no [provider.{name}]"));
    }
    let caller = claims.map(|claims| Caller { claims, voucher });
    let certificate = args
        .certificate
        .iter()
        .map(|text| certificate::name(text).map_err(|what| format!("the name {text:?} of a certificate {what}")));
    let certificate = certificate.collect::<Result<_, _>>()?;
    let headers = headers(&args.headers)?;
    Ok(Question { method, authority, target, client: args.address, certificate, headers, caller })
}

/// The authority, and what follows it byte for byte: a parser of URLs would tidy up what is to be explained.
fn split<'a>(url: &'a str, settings: &Settings) -> Result<(String, &'a str), String> {
    // No client sends a fragment.
    let url = url.split('#').next().unwrap_or_default();
    if url.starts_with('/') {
        return Ok((settings.server.public_url.authority().to_owned(), url));
    }
    let Some(rest) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else {
        return Err(format!("{url:?} is no address; write https://host/path, or /path"));
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at_checked(end).unwrap_or((rest, ""));
    // As a browser writes it: an international name in its ASCII form.
    let authority = if authority.is_ascii() {
        authority.to_owned()
    } else {
        let parsed = url::Url::parse(&format!("http://{authority}")).map_err(|e| format!("{authority:?}: {e}"))?;
        parsed.host_str().unwrap_or_default().to_owned()
    };
    Ok((authority, if target.is_empty() { "/" } else { target }))
}

fn headers(lines: &[String]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let parsed = line.split_once(':').and_then(|(name, value)| {
            Some((HeaderName::try_from(name.trim()).ok()?, HeaderValue::try_from(value.trim()).ok()?))
        });
        // Not shown: it may hold a token.
        let (name, value) = parsed.ok_or_else(|| "a --header is not of the form \"Name: value\"".to_owned())?;
        headers.append(name, value);
    }
    Ok(headers)
}

fn claims(file: &Path) -> Result<Map<String, Value>, String> {
    let broken = |why: String| format!("the claims in {}: {why}", file.display());
    let size = std::fs::metadata(file).map_err(|e| broken(e.to_string()))?.len();
    if size > CLAIMS_BYTES {
        return Err(broken("larger than 1 MiB".to_owned()));
    }
    let text = std::fs::read(file).map_err(|e| broken(e.to_string()))?;
    serde_json::from_slice(&text).map_err(|e| broken(format!("not a JSON object ({e})")))
}

/// For a terminal.
fn told(e: &Explanation) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let mut line = |name: &str, text: String| {
        let _ = writeln!(out, "{name:<10}{text}");
    };
    let place = e.host.as_ref().zip(e.path.as_ref()).map(|(host, path)| format!("{} {host}{path}", e.method));
    line("request", format!("{} from {}", place.unwrap_or_else(|| e.method.clone()), e.client));
    line("caller", caller(e));
    if let Some(route) = &e.route {
        line("route", format!("{}: {}", route.name, route.why));
        let policy = route.policy.as_ref().map(|name| format!(", policy {name}")).unwrap_or_default();
        let mode = if route.mode == "observe" { ", only observed" } else { "" };
        line("access", format!("{}{policy}{mode}", route.access));
    }
    for (n, tried) in e.rules.iter().enumerate() {
        let name = format!("{}[{}]", tried.list, tried.number);
        line(if n == 0 { "rules" } else { "" }, format!("{name:<10}{:<12} {}", tried.answer, tried.rule));
    }
    line("decision", decision(e));
    if let Some(upstream) = &e.upstream {
        line("upstream", upstream.to.clone());
        for (n, header) in upstream.headers.iter().enumerate() {
            line(if n == 0 { "headers" } else { "" }, format!("{}: {}", header.name, header.value));
        }
    }
    out
}

fn caller(e: &Explanation) -> String {
    let (name, section) = (e.caller.name.as_deref().unwrap_or("-"), e.caller.section.as_deref().unwrap_or("-"));
    match e.caller.kind {
        Kind::Anonymous => "anonymous".to_owned(),
        Kind::Machine => format!("{name}, with a token of {section}"),
        Kind::Person => format!("{name}, signed in at {section}"),
    }
}

fn decision(e: &Explanation) -> String {
    let word = match e.decision {
        Outcome::Allow => "allow",
        Outcome::BadRequest => "bad request",
        Outcome::BadToken => "bad token",
        Outcome::Deny => "deny",
        Outcome::MethodNotAllowed => "method not allowed",
        Outcome::NotFound => "not found",
        Outcome::Observe => "allow, though the policy says no",
        Outcome::Own => "answered by Doorward",
        Outcome::SignIn => "sign in",
        Outcome::StepUp => "step up",
    };
    let reason = e.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let status = match &e.status {
        None => String::new(),
        Some(status) if status.page == status.program => format!(" ({})", status.page),
        Some(status) => format!(" ({} for a page, {} for a program)", status.page, status.program),
    };
    format!("{word}{reason}{status}")
}
