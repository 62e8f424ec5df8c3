//! The structured ("alpha") configuration: providers, upstreams, headers, servers. What has a name in the flat
//! configuration too becomes that key; upstreams and headers stay structures.

use serde_json::{Map, Value};

use super::super::keys;
use super::super::options::{Header, Layer, Options, Upstream};
use super::references::Source;
use super::{args, text};

/// The path of each value, its case aside (oauth2-proxy takes any), and the flat key that says the same.
const SAME: [(&str, &str); 64] = [
    ("provider.allowedgroups", "allowed_groups"),
    ("provider.authrequestresponsemode", "auth_request_response_mode"),
    ("provider.azureconfig.graphgroupfield", "azure_graph_group_field"),
    ("provider.azureconfig.tenant", "azure_tenant"),
    ("provider.backendlogouturl", "backend_logout_url"),
    ("provider.bitbucketconfig.repository", "bitbucket_repository"),
    ("provider.bitbucketconfig.team", "bitbucket_team"),
    ("provider.cafiles", "provider_ca_files"),
    ("provider.clientid", "client_id"),
    ("provider.clientsecret", "client_secret"),
    ("provider.clientsecretfile", "client_secret_file"),
    ("provider.code_challenge_method", "code_challenge_method"),
    ("provider.githubconfig.org", "github_org"),
    ("provider.githubconfig.repo", "github_repo"),
    ("provider.githubconfig.team", "github_team"),
    ("provider.githubconfig.token", "github_token"),
    ("provider.githubconfig.users", "github_users"),
    ("provider.gitlabconfig.group", "gitlab_groups"),
    ("provider.gitlabconfig.projects", "gitlab_projects"),
    ("provider.googleconfig.adminapiuserscope", "google_admin_api_user_scope"),
    ("provider.googleconfig.adminemail", "google_admin_email"),
    ("provider.googleconfig.group", "google_groups"),
    ("provider.googleconfig.serviceaccountjson", "google_service_account_json"),
    ("provider.googleconfig.targetprincipal", "google_target_principal"),
    ("provider.googleconfig.useapplicationdefaultcredentials", "google_use_application_default_credentials"),
    ("provider.googleconfig.useorganizationid", "google_use_organization_id"),
    ("provider.keycloakconfig.groups", "keycloak_groups"),
    ("provider.keycloakconfig.roles", "allowed_roles"),
    ("provider.logingovconfig.jwtkey", "jwt_key"),
    ("provider.logingovconfig.jwtkeyfile", "jwt_key_file"),
    ("provider.logingovconfig.pubjwkurl", "pubjwk_url"),
    ("provider.loginurl", "login_url"),
    ("provider.microsoftentraidconfig.allowedtenants", "entra_id_allowed_tenants"),
    ("provider.microsoftentraidconfig.federatedtokenauth", "entra_id_federated_token_auth"),
    ("provider.name", "provider_display_name"),
    ("provider.oidcconfig.audienceclaims", "oidc_audience_claims"),
    ("provider.oidcconfig.emailclaim", "oidc_email_claim"),
    ("provider.oidcconfig.enabledsigningalgs", "oidc_enabled_signing_algs"),
    ("provider.oidcconfig.extraaudiences", "oidc_extra_audiences"),
    ("provider.oidcconfig.groupsclaim", "oidc_groups_claim"),
    ("provider.oidcconfig.insecureallowunverifiedemail", "insecure_oidc_allow_unverified_email"),
    ("provider.oidcconfig.insecureskipissuerverification", "insecure_oidc_skip_issuer_verification"),
    ("provider.oidcconfig.insecureskipnonce", "insecure_oidc_skip_nonce"),
    ("provider.oidcconfig.issuerurl", "oidc_issuer_url"),
    ("provider.oidcconfig.jwksurl", "oidc_jwks_url"),
    ("provider.oidcconfig.publickeyfiles", "oidc_public_key_files"),
    ("provider.oidcconfig.skipdiscovery", "skip_oidc_discovery"),
    ("provider.oidcconfig.useridclaim", "user_id_claim"),
    ("provider.profileurl", "profile_url"),
    ("provider.provider", "provider"),
    ("provider.redeemurl", "redeem_url"),
    ("provider.resource", "resource"),
    ("provider.scope", "scope"),
    ("provider.skipclaimsfromprofileurl", "skip_claims_from_profile_url"),
    ("provider.usesystemtruststore", "use_system_trust_store"),
    ("provider.validateurl", "validate_url"),
    ("server.bindaddress", "http_address"),
    ("server.securebindaddress", "https_address"),
    ("server.tls.cert.fromfile", "tls_cert_file"),
    ("server.tls.ciphersuites", "tls_cipher_suites"),
    ("server.tls.key.fromfile", "tls_key_file"),
    ("server.tls.minversion", "tls_min_version"),
    ("metricsserver.bindaddress", "metrics_address"),
    ("metricsserver.securebindaddress", "metrics_secure_address"),
];

pub(super) fn read(map: &Map<String, Value>, source: Source<'_>, options: &mut Options) {
    options.structured = true;
    let mut reader = Reader { source, options };
    for (name, value) in map {
        match name.to_ascii_lowercase().as_str() {
            "providers" => reader.providers(value),
            "server" => reader.values("server", value),
            "metricsserver" => reader.values("metricsserver", value),
            "upstreamconfig" => reader.upstreams(value),
            "injectrequestheaders" => {
                let headers = reader.headers(name, value);
                reader.options.request_headers = Some(headers);
            }
            "injectresponseheaders" => {
                let headers = reader.headers(name, value);
                reader.options.response_headers = Some(headers);
            }
            _ => reader.unknown(name),
        }
    }
}

struct Reader<'a> {
    source: Source<'a>,
    options: &'a mut Options,
}

impl Reader<'_> {
    fn unknown(&mut self, path: &str) {
        self.options.warn(path, format!("not carried over: Doorward has nothing like it ({})", self.source.file));
    }

    fn providers(&mut self, value: &Value) {
        let providers = value.as_array().map(Vec::as_slice).unwrap_or_default();
        if let [provider, others @ ..] = providers {
            self.values("provider", provider);
            if !others.is_empty() {
                self.options.warn("providers", "only the first is carried over: oauth2-proxy itself uses no other. Doorward takes several, a [provider.NAME] section each");
            }
        }
    }

    /// Every value below, by its path.
    fn values(&mut self, path: &str, value: &Value) {
        let path = path.to_ascii_lowercase();
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    let name = name.to_ascii_lowercase();
                    match name.as_str() {
                        "id" if path == "provider" => {}
                        "loginurlparameters" => self.parameters(value),
                        _ => self.values(&format!("{path}.{name}"), value),
                    }
                }
            }
            Value::Null => {}
            value => {
                let known = SAME.iter().find(|(known, _)| *known == path).and_then(|(_, name)| keys::named(name));
                match known {
                    None => self.unknown(&path),
                    Some(key) => {
                        let filled = super::texts(Some(value)).iter().map(|text| self.source.fill(text)).collect();
                        let given = args::whole(filled, Layer::Structured, self.source.file);
                        self.options.give(key, given);
                    }
                }
            }
        }
    }

    /// A text that is no key of its own, its references filled in.
    fn filled(&mut self, key: &str, text: &str) -> String {
        let filled = self.source.fill(text);
        if let Some(name) = filled.lacks() {
            let why = format!("names the variable {name}, whose value is in none of these files: write it there");
            self.options.refuse(key, why);
        }
        filled.text.unwrap_or_default()
    }

    fn parameters(&mut self, value: &Value) {
        for parameter in value.as_array().into_iter().flatten() {
            let name = text(parameter.get("name")).unwrap_or_default().to_owned();
            let written = super::texts(parameter.get("default"));
            let defaults: Vec<String> = written.iter().map(|text| self.filled("loginURLParameters", text)).collect();
            if parameter.get("allow").is_some() {
                self.options.warn(&format!("loginURLParameters {name}"), "not carried over: no caller chooses parameters of the sign-in request; the default, if there is one, is always sent");
            }
            if defaults.len() > 1 {
                self.options.warn(
                    &format!("loginURLParameters {name}"),
                    "only its first default is carried over: a parameter is sent once",
                );
            }
            self.options.parameters.extend(defaults.into_iter().next().map(|value| (name, value)));
        }
    }

    fn upstreams(&mut self, value: &Value) {
        if text(value.get("proxyRawPath")) == Some("true") {
            self.options.warn("upstreamConfig.proxyRawPath", "not carried over: raw_path = true is for a route that has its host to itself; write it there where the application needs %2F or //");
        }
        let mut upstreams = Vec::new();
        for one in value.get("upstreams").and_then(Value::as_array).into_iter().flatten() {
            let mut get = |name: &str| text(one.get(name)).map(|text| self.filled("upstreamConfig", text));
            let is_static = get("static").as_deref() == Some("true");
            let upstream = Upstream {
                id: get("id").unwrap_or_default(),
                path: get("path").unwrap_or_else(|| "/".to_owned()),
                rewrite: get("rewriteTarget").unwrap_or_default(),
                uri: get("uri").unwrap_or_default(),
                is_static,
                pass_host: get("passHostHeader"),
                timeout: get("timeout"),
                disable_keep_alives: get("disableKeepAlives").as_deref() == Some("true"),
            };
            let lost: Vec<_> = [
                (
                    "insecureSkipTLSVerify",
                    "false",
                    "certificates are always verified: name the authority's PEM file in [route.upstream_options] ca",
                ),
                ("proxyWebSockets", "true", "whoever may use a route may open WebSockets there, from the same origin"),
            ]
            .into_iter()
            .filter(|(name, nothing_lost, _)| get(name).is_some_and(|value| value != *nothing_lost))
            .collect();
            for (name, _, why) in lost {
                self.options.warn(&format!("{name} of upstream {}", upstream.id), format!("not carried over: {why}"));
            }
            upstreams.push(upstream);
        }
        self.options.upstreams = Some(upstreams);
    }

    fn headers(&mut self, list: &str, value: &Value) -> Vec<Header> {
        let mut headers = Vec::new();
        for one in value.as_array().into_iter().flatten() {
            let name = text(one.get("name")).unwrap_or_default().to_owned();
            let place = format!("{list} {name}");
            if text(one.get("preserveRequestValue")) == Some("true") {
                self.options.warn(&place, "what a client sends under this name is always removed");
            }
            let values = one.get("values").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let [value] = values else {
                self.options.warn(&place, "not carried over: a header of Doorward says one claim");
                continue;
            };
            // Before 7.14 the claim stood in the value itself.
            let source = value.get("claimSource").unwrap_or(value);
            match (text(source.get("claim")), source.get("basicAuthPassword")) {
                (Some(claim), None) => {
                    let prefix = text(source.get("prefix")).unwrap_or_default().to_owned();
                    let claim = self.filled(list, claim);
                    headers.push(Header { name, claim, prefix });
                }
                (Some(_), Some(_)) => self.options.warn(&place, "not carried over: no header has each person's name with one shared password; [route.upstream_auth] kind = \"basic\" has one fixed name"),
                (None, _) => self.options.warn(&place, "not carried over: a header of Doorward says a claim, not a fixed text or a secret"),
            }
        }
        headers
    }
}

#[cfg(test)]
pub(super) fn flat_names() -> impl Iterator<Item = &'static str> {
    SAME.iter().map(|(_, name)| *name)
}
