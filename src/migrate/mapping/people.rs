//! Who may pass. oauth2-proxy asks for an address that fits and a group that fits; a rule of Doorward asks for both.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::super::output::{bare, list, quoted};
use super::Context;

pub(super) fn map(c: &mut Context) {
    let kind = c.options.text("provider").unwrap_or("google").to_owned();
    let addresses = addresses(c, &kind);
    let memberships = memberships(c, &kind);
    let networks = networks(c);
    let mut rules = Vec::new();
    for address in &addresses {
        for membership in &memberships {
            let both: Vec<&str> =
                [address, membership].into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
            rules.push(both.join(", "));
        }
    }
    let is_everybody = rules.iter().any(String::is_empty);
    if is_everybody && networks.is_empty() {
        // access = "authenticated"
        return;
    }
    if is_everybody {
        rules = vec![format!("provider = {}", quoted("main"))];
        if !c.issuers.is_empty() {
            rules.push(format!("issuer = {}", list(&c.issuers)));
        }
    }
    if !networks.is_empty() {
        rules.push(format!("network = {}", list(&networks)));
    }
    let names = [
        "email_domains",
        "authenticated_emails_file",
        "allowed_groups",
        "keycloak_groups",
        "gitlab_groups",
        "allowed_roles",
        "github_users",
        "trusted_ips",
    ];
    let from: Vec<String> =
        names.iter().filter(|name| c.options.given(name).is_some()).map(|name| c.options.origin(name)).collect();
    c.draft.allow_from = from.join(", ");
    c.draft.allow = rules.into_iter().map(|rule| format!("{{ {rule} }}")).collect();
}

/// One condition each; one of them has to hold. An empty text is no condition.
fn addresses(c: &mut Context, kind: &str) -> Vec<String> {
    let written = c.options.list("email_domains");
    if written.iter().any(|domain| domain == "*") {
        c.options.warn("email_domains", "everybody who can sign in at the provider gets in (access = \"authenticated\" where no other rule says less); also who has no e-mail address there or an unverified one, whom oauth2-proxy refuses");
        return vec![String::new()];
    }
    let (patterns, domains): (Vec<String>, Vec<String>) =
        written.into_iter().partition(|domain| domain.starts_with(['.', '*']));
    if !patterns.is_empty() {
        c.options.warn(
            "email_domains",
            format!(
                "not carried over: {}; an email_domain is compared whole, so name each subdomain",
                patterns.join(", ")
            ),
        );
    }
    let emails = emails(c);
    let mut conditions = Vec::new();
    if !domains.is_empty() {
        conditions.push(format!("email_domain = {}", list(&domains)));
    }
    if !emails.is_empty() {
        conditions.push(format!("email = {}", list(&emails)));
    }
    if conditions.is_empty() {
        let why = match (c.options.text("authenticated_emails_file"), patterns.is_empty()) {
            (Some(file), _) => format!("give {file} too, as one more file: its addresses become rules"),
            (None, false) => "nobody would get in: name each subdomain".to_owned(),
            (None, true) => {
                "nobody is named who may sign in, which oauth2-proxy refuses too (it is \"*\" for everybody)".to_owned()
            }
        };
        c.options.refuse("email_domains", why);
    } else if matches!(kind, "azure" | "entra-id" | "adfs") {
        c.options.warn("email_domains", "Microsoft's tokens do not say email_verified, and rules take no address that is not verified: write rules of group, of claim (claim.tid = \"TENANT\") or of user");
    } else if kind != "google" {
        c.options.warn("email_domains", "an address counts where the provider says email_verified = true; oauth2-proxy also takes one of which it says nothing");
    }
    conditions
}

fn emails(c: &mut Context) -> Vec<String> {
    if c.options.given("authenticated_emails_file").is_none() {
        if !c.options.emails.is_empty() {
            c.options.warn(
                "authenticated_emails_file",
                "a list of addresses is not carried over: nothing in these files says that oauth2-proxy reads it",
            );
        }
        return Vec::new();
    }
    // The first column, as oauth2-proxy reads the list.
    let first = |line: &String| line.split(',').next().unwrap_or_default().trim().to_ascii_lowercase();
    let mut emails: Vec<String> = c.options.emails.iter().map(first).collect();
    emails.sort_unstable();
    emails.dedup();
    let is_address = |email: &String| {
        email.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty() && !domain.is_empty() && !email.contains(['*', ' ']) && !domain.contains('@')
        })
    };
    let (emails, others): (Vec<String>, Vec<String>) = emails.into_iter().partition(is_address);
    if !others.is_empty() {
        c.options.warn(
            "authenticated_emails_file",
            format!("not carried over: {} line(s) that are no e-mail address", others.len()),
        );
    }
    if let (Some(file), true) = (c.options.text("authenticated_emails_file").map(str::to_owned), emails.is_empty()) {
        c.options.warn(
            "authenticated_emails_file",
            format!("not carried over: give {file} too, as one more file, and its addresses become rules"),
        );
    }
    emails
}

/// As `addresses`.
fn memberships(c: &mut Context, kind: &str) -> Vec<String> {
    let mut groups = c.options.list("allowed_groups");
    let mut roles = Vec::new();
    for (name, of) in [("keycloak_groups", "keycloak"), ("gitlab_groups", "gitlab")] {
        let own = c.options.list(name);
        match own.is_empty() {
            true => {}
            false if kind == of => groups = own,
            false => c.options.warn(name, format!("not carried over: it counts with provider = \"{of}\" only")),
        }
    }
    let written = c.options.list("allowed_roles");
    if kind == "keycloak-oidc" {
        roles = written;
        // Roles are groups to oauth2-proxy, by this prefix.
        roles.extend(groups.iter().filter_map(|group| group.strip_prefix("role:")).map(str::to_owned));
        groups.retain(|group| !group.starts_with("role:"));
    } else if !written.is_empty() {
        c.options.warn("allowed_roles", "not carried over: it counts with provider = \"keycloak-oidc\" only");
    }
    let users = if kind == "github" { c.options.list("github_users") } else { Vec::new() };
    let mut conditions = Vec::new();
    if !groups.is_empty() {
        conditions.push(format!("group = {}", list(&groups)));
        if matches!(kind, "azure" | "entra-id") {
            c.options.warn("allowed_groups", "groups are what the token says: add the groups claim to the token at Entra ID; beyond 200 groups it leaves them out, and those people do not get in");
        } else if kind == "github" {
            c.options.warn("allowed_groups", "GitHub's userinfo names no groups, so nobody would get in by one");
        }
    }
    if !users.is_empty() {
        conditions.push(format!("user = {}", list(&users)));
    }
    let had_roles = !roles.is_empty();
    conditions.extend(self::roles(c, &roles));
    let projects = kind == "gitlab" && !c.options.list("gitlab_projects").is_empty();
    if conditions.is_empty() && (had_roles || projects) {
        let name = if projects { "gitlab_projects" } else { "allowed_roles" };
        c.options.refuse(name, "cannot be a rule here, so people without it would get in: remove it and name groups");
    }
    if conditions.is_empty() { vec![String::new()] } else { conditions }
}

/// A role of the realm, or `CLIENT:ROLE`; a name with a colon can be either.
fn roles(c: &mut Context, roles: &[String]) -> Vec<String> {
    if roles.is_empty() {
        return Vec::new();
    }
    c.options.warn("allowed_roles", "Keycloak puts roles into access tokens alone: turn on \"Add to ID token\" (or to userinfo) in the mappers of the client scope `roles`");
    let mut clients: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (client, role) in roles.iter().filter_map(|role| role.split_once(':')) {
        if client.contains('.') || client.is_empty() {
            c.options.warn(
                "allowed_roles",
                format!("not carried over: {client}:{role}; no rule reaches a claim below a name with a dot"),
            );
        } else {
            clients.entry(client).or_default().push(role);
        }
    }
    let of_realm = format!("claim = {{ realm_access = {{ roles = {} }} }}", list(roles));
    let of_client = |(client, roles): (&str, Vec<&str>)| {
        format!("claim = {{ resource_access = {{ {} = {{ roles = {} }} }} }}", bare(client), list(&roles))
    };
    std::iter::once(of_realm).chain(clients.into_iter().map(of_client)).collect()
}

/// From these nobody has to sign in.
fn networks(c: &mut Context) -> Vec<String> {
    let written = c.options.list("trusted_ips");
    if written.is_empty() {
        return written;
    }
    let is_network = |text: &String| text.parse::<IpNet>().is_ok() || text.parse::<std::net::IpAddr>().is_ok();
    let (networks, others): (Vec<String>, Vec<String>) = written.into_iter().partition(is_network);
    if !others.is_empty() {
        c.options.warn("trusted_ips", format!("not carried over: {}; it is no network", others.join(", ")));
    }
    if !networks.is_empty() {
        c.options.warn("trusted_ips", format!("INSECURE where addresses can be forged or shared: from {} everybody passes without a sign-in, as before", networks.join(", ")));
    }
    networks
}
