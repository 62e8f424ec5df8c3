//! Every key of oauth2-proxy 7.15: what it is, and what becomes of it. `docs/migrate.md` shows this table; a test compares
//! the two.

use Fate::{Becomes, Without};
use Kind::{Bool, List, Text};

/// How a key is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A flag that may stand alone.
    Bool,
    /// May be given several times, or with commas.
    List,
    /// Text, a number or a duration.
    Text,
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// The key of Doorward that says it; code in `mapping` writes it.
    Becomes(&'static str),
    /// Not carried over. Nothing is lost where it has this value; otherwise the reason is a warning.
    Without(&'static str, &'static str),
}

/// `name` as in the configuration file and, in capitals, in variables. `flag` where it is not the same with dashes.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub flag: &'static str,
    pub kind: Kind,
    pub fate: Fate,
}

impl Key {
    /// Whether its value may stay in the variable that it is in.
    pub fn is_secret(&self) -> bool {
        SECRETS.contains(&self.name)
    }
}

const SECRETS: [&str; 7] = [
    "client_secret",
    "cookie_secret",
    "jwt_key",
    "redis_cluster_connection_urls",
    "redis_connection_url",
    "redis_password",
    "redis_sentinel_connection_urls",
];

const fn key(name: &'static str, kind: Kind, fate: Fate) -> Key {
    Key { name, flag: "", kind, fate }
}

const fn plural(name: &'static str, flag: &'static str, fate: Fate) -> Key {
    Key { name, flag, kind: List, fate }
}

/// Where its own values are compared with what a `Without` says: always a loss.
const ANY: &str = "\0";

const LOG_FORMAT: &str = "logs are JSON, or text on a terminal ([telemetry] format); no templates";
const LOG_FILE: &str = "logs go to standard output and error; let the system keep and rotate them";
const PAGES: &str = "Doorward's pages have no templates; [provider.NAME] label names the provider on the sign-in page";
const DISCOVERY: &str = "Doorward reads the provider's endpoints and keys from the issuer's discovery document";
const GOOGLE_API: &str =
    "Doorward asks no Google API; the Google login with its verified address and `hd` claim is all there is";
const NO_HTPASSWD: &str = "there are no local users: those people need an account at the provider";
const VERIFY_TLS: &str = "certificates are always verified";

/// In the order of their names.
pub const KEYS: &[Key] = &[
    key("acr_values", Text, Becomes("provider.NAME.extra_params.acr_values")),
    key("allow_query_semicolons", Bool, Without("false", "the query is passed on as it came, semicolons included")),
    plural("allowed_groups", "allowed-group", Becomes("policy.NAME.allow group")),
    plural(
        "allowed_roles",
        "allowed-role",
        Becomes("policy.NAME.allow claim.realm_access.roles, claim.resource_access.CLIENT.roles"),
    ),
    plural("api_routes", "api-route", Becomes("route.unauthenticated = \"401\"")),
    key(
        "approval_prompt",
        Text,
        Without(
            "force",
            "it is no parameter of OpenID Connect: write prompt = \"consent\" in extra_params if the provider has to ask each time",
        ),
    ),
    key(
        "auth_logging",
        Bool,
        Without(
            "true",
            "each sign-in, sign-out and refusal is an audit line; [telemetry] log = \"info,audit=off\" silences them",
        ),
    ),
    key("auth_logging_format", Text, Without("", LOG_FORMAT)),
    key("auth_request_response_mode", Text, Becomes("provider.NAME.response_mode")),
    key("authenticated_emails_file", Text, Becomes("policy.NAME.allow email")),
    key(
        "azure_graph_group_field",
        Text,
        Without(
            "id",
            "Doorward does not ask Microsoft Graph; groups are what the token says (by default their object ids)",
        ),
    ),
    key("azure_tenant", Text, Becomes("provider.NAME.issuer")),
    key(
        "backend_logout_url",
        Text,
        Without(
            "",
            "a sign-out goes to the provider's end_session_endpoint, with the ID token as a hint, and revokes the tokens",
        ),
    ),
    key("banner", Text, Without("", PAGES)),
    key(
        "basic_auth_password",
        Text,
        Without(
            "",
            "no header has each person's name with one shared password; applications read the identity headers, or [route.upstream_auth] kind = \"basic\" with one fixed name",
        ),
    ),
    key(
        "bearer_token_login_fallback",
        Bool,
        Without("false", "a request with a bad token is 401, whatever else it brings; it is never sent to the sign-in"),
    ),
    key("bitbucket_repository", Text, Without("", "Doorward does not ask the Bitbucket API")),
    key("bitbucket_team", Text, Without("", "Doorward does not ask the Bitbucket API")),
    key("client_id", Text, Becomes("provider.NAME.client_id")),
    key("client_secret", Text, Becomes("provider.NAME.client_secret")),
    key("client_secret_file", Text, Becomes("provider.NAME.client_secret")),
    key("code_challenge_method", Text, Without("S256", "PKCE with S256 is always used")),
    key("cookie_csrf_expire", Text, Without("15m", "a sign-in under way lasts 10 minutes")),
    key("cookie_csrf_per_request", Bool, Without("true", "each sign-in under way has a cookie of its own, at most 5")),
    key(
        "cookie_csrf_per_request_limit",
        Text,
        Without("0", "each sign-in under way has a cookie of its own, at most 5"),
    ),
    key(
        "cookie_csrf_samesite",
        Text,
        Without("lax", "the cookie of a sign-in is SameSite=Lax; None only where the provider answers by form_post"),
    ),
    plural("cookie_domains", "cookie-domain", Becomes("session.cookie_domain")),
    key("cookie_expire", Text, Becomes("session.lifetime")),
    key("cookie_httponly", Bool, Without("true", "the session cookie is always HttpOnly")),
    key("cookie_name", Text, Becomes("session.cookie")),
    key("cookie_path", Text, Without("/", "the session cookie is for the whole host")),
    key(
        "cookie_refresh",
        Text,
        Without(
            "0",
            "a session is refreshed when its access token is about to expire, not by a clock of its own (session.refresh_before)",
        ),
    ),
    key("cookie_samesite", Text, Becomes("session.same_site")),
    key("cookie_secret", Text, Becomes("session.keys")),
    key("cookie_secret_file", Text, Becomes("session.keys")),
    key("cookie_secure", Bool, Becomes("server.public_url")),
    key("custom_sign_in_logo", Text, Without("", PAGES)),
    key("custom_templates_dir", Text, Without("", PAGES)),
    key("disable_keep_alives", Bool, Becomes("route.upstream_options.idle_timeout = \"0s\"")),
    key("display_htpasswd_form", Bool, Without("true", NO_HTPASSWD)),
    plural(
        "email_domains",
        "email-domain",
        Becomes("policy.NAME.allow email_domain; \"*\": access = \"authenticated\""),
    ),
    key("encode_state", Bool, Without("false", "state is always an opaque random value")),
    plural("entra_id_allowed_tenants", "entra-id-allowed-tenant", Becomes("provider.NAME.issuer")),
    key(
        "entra_id_federated_token_auth",
        Bool,
        Without(
            "false",
            "Doorward proves itself by a client secret, a key or a certificate: register one (docs/providers.md)",
        ),
    ),
    key("errors_to_info_log", Bool, Without("false", LOG_FILE)),
    plural(
        "exclude_logging_paths",
        "exclude-logging-path",
        Without("", "every request has its line; [telemetry] access_log = false turns all of them off"),
    ),
    key("extra_jwt_issuers", List, Becomes("issuer.NAME, route.machine.issuers")),
    key("flush_interval", Text, Without(ANY, "answers are passed on as they come")),
    key("footer", Text, Without("", PAGES)),
    key("force_code_challenge_method", Text, Without("S256", "PKCE with S256 is always used")),
    key("force_https", Bool, Becomes("server.tls.redirect_listen")),
    key("force_json_errors", Bool, Becomes("route.unauthenticated = \"401\"")),
    key(
        "gcp_healthchecks",
        Bool,
        Without(
            "false",
            "health is at /ping and /ready; write a route such as path = \"=/liveness_check\", upstream = \"status:200\", access = \"public\" for others",
        ),
    ),
    key("github_org", Text, Without("", "Doorward does not ask the GitHub API for memberships")),
    key("github_repo", Text, Without("", "Doorward does not ask the GitHub API for memberships")),
    key("github_team", Text, Without("", "Doorward does not ask the GitHub API for memberships")),
    key("github_token", Text, Without("", "Doorward does not ask the GitHub API for memberships")),
    plural("github_users", "github-user", Becomes("policy.NAME.allow user")),
    plural("gitlab_groups", "gitlab-group", Becomes("policy.NAME.allow group")),
    plural(
        "gitlab_projects",
        "gitlab-project",
        Without("", "Doorward does not ask the GitLab API; groups are what the provider says of a person"),
    ),
    key("google_admin_api_user_scope", Text, Without("", GOOGLE_API)),
    key("google_admin_email", Text, Without("", GOOGLE_API)),
    key("google_group", List, Without("", GOOGLE_API)),
    plural("google_groups", "google-group", Without("", GOOGLE_API)),
    key("google_service_account_json", Text, Without("", GOOGLE_API)),
    key("google_target_principal", Text, Without("", GOOGLE_API)),
    key("google_use_application_default_credentials", Bool, Without("false", GOOGLE_API)),
    key("google_use_organization_id", Bool, Without("false", GOOGLE_API)),
    key("htpasswd_file", Text, Without("", NO_HTPASSWD)),
    plural("htpasswd_user_groups", "htpasswd-user-group", Without("", NO_HTPASSWD)),
    key("http_address", Text, Becomes("server.listen")),
    key("https_address", Text, Becomes("server.listen, with server.tls")),
    key(
        "insecure_oidc_allow_unverified_email",
        Bool,
        Without(
            "false",
            "rules never take an address that the provider does not call verified (email_verified = true): have it say so, or write rules of group or user",
        ),
    ),
    key(
        "insecure_oidc_skip_issuer_verification",
        Bool,
        Without(
            "false",
            "tokens are of exactly the issuer that is written; name each tenant's issuer in a [provider.NAME] of its own",
        ),
    ),
    key("insecure_oidc_skip_nonce", Bool, Without("false", "the nonce is always checked")),
    key("jwt_key", Text, Becomes("provider.NAME.private_key")),
    key("jwt_key_file", Text, Becomes("provider.NAME.private_key")),
    plural("keycloak_groups", "keycloak-group", Becomes("policy.NAME.allow group")),
    key("logging_compress", Bool, Without("false", LOG_FILE)),
    key("logging_filename", Text, Without("", LOG_FILE)),
    key("logging_local_time", Bool, Without("false", "times in logs are UTC")),
    key("logging_max_age", Text, Without("7", LOG_FILE)),
    key("logging_max_backups", Text, Without("0", LOG_FILE)),
    key("logging_max_size", Text, Without("100", LOG_FILE)),
    key("login_url", Text, Becomes("provider.NAME.authorization_url (GitHub's shape only)")),
    key("metrics_address", Text, Becomes("admin.listen")),
    key(
        "metrics_secure_address",
        Text,
        Without("", "the admin listener speaks plain http: keep it on loopback, or reachable for the monitoring alone"),
    ),
    key(
        "metrics_tls_cert_file",
        Text,
        Without("", "the admin listener speaks plain http: keep it on loopback, or reachable for the monitoring alone"),
    ),
    key(
        "metrics_tls_key_file",
        Text,
        Without("", "the admin listener speaks plain http: keep it on loopback, or reachable for the monitoring alone"),
    ),
    plural(
        "oidc_audience_claims",
        "oidc-audience-claim",
        Without("aud", "the audience of a token is its `aud`, and nothing else"),
    ),
    key("oidc_email_claim", Text, Becomes("provider.NAME.claims.email")),
    plural("oidc_enabled_signing_algs", "oidc-enabled-signing-alg", Becomes("provider.NAME.id_token_algs")),
    plural("oidc_extra_audiences", "oidc-extra-audience", Becomes("route.machine.audience")),
    key("oidc_groups_claim", Text, Becomes("provider.NAME.claims.groups")),
    key("oidc_issuer_url", Text, Becomes("provider.NAME.issuer")),
    key("oidc_jwks_url", Text, Without("", DISCOVERY)),
    plural("oidc_public_key_files", "oidc-public-key-file", Without("", DISCOVERY)),
    key("pass_access_token", Bool, Becomes("route.identity \"x-forwarded-access-token\"")),
    key("pass_authorization_header", Bool, Becomes("route.upstream_auth.kind = \"id_token\"")),
    key("pass_basic_auth", Bool, Becomes("route.identity \"x-forwarded\"")),
    key("pass_host_header", Bool, Becomes("route.upstream_options.pass_host")),
    key("pass_user_headers", Bool, Becomes("route.identity \"x-forwarded\"")),
    key("ping_path", Text, Becomes("a route with upstream = \"status:200\"; /ping is always there")),
    key("ping_user_agent", Text, Without("", "health is at /ping and /ready, whoever asks")),
    key("prefer_email_to_user", Bool, Becomes("route.identity { header = \"X-Forwarded-User\", claim = \"email\" }")),
    key("profile_url", Text, Without("", DISCOVERY)),
    key("prompt", Text, Becomes("provider.NAME.extra_params.prompt")),
    key("provider", Text, Becomes("provider.NAME.kind and issuer")),
    plural("provider_ca_files", "provider-ca-file", Becomes("provider.NAME.ca")),
    key("provider_display_name", Text, Becomes("provider.NAME.label")),
    key("proxy_prefix", Text, Becomes("server.prefix")),
    key(
        "proxy_websockets",
        Bool,
        Without("true", "whoever may use a route may open WebSockets there, from the same origin (route.origins)"),
    ),
    key("pubjwk_url", Text, Without("", "the provider has the public half of private_key registered")),
    key("ready_path", Text, Without("/ready", "readiness is at /ready, and at /readyz of the admin listener")),
    key(
        "real_client_ip_header",
        Text,
        Without(
            "X-Forwarded-For",
            "the client's address is read from X-Forwarded-For or Forwarded of trusted_proxies, right to left: have the proxy in front send that",
        ),
    ),
    key("redeem_url", Text, Becomes("provider.NAME.token_url (GitHub's shape only)")),
    key("redirect_url", Text, Becomes("server.public_url")),
    key("redis_ca_path", Text, Becomes("session.redis.ca")),
    key("redis_cluster_connection_urls", List, Becomes("session.redis.url (redis-cluster://)")),
    key(
        "redis_connection_idle_timeout",
        Text,
        Without("0", "connections to Redis are kept alive and made anew when one ends"),
    ),
    key("redis_connection_url", Text, Becomes("session.redis.url")),
    key("redis_insecure_skip_tls_verify", Bool, Without("false", VERIFY_TLS)),
    key("redis_password", Text, Becomes("session.redis.url")),
    key("redis_sentinel_connection_urls", List, Becomes("session.redis.url (redis-sentinel://)")),
    key("redis_sentinel_master_name", Text, Becomes("session.redis.url (redis-sentinel://)")),
    key(
        "redis_sentinel_password",
        Text,
        Without("", "Doorward asks the sentinels without a password; the one in the URL is the data servers'"),
    ),
    key("redis_use_cluster", Bool, Becomes("session.redis.url (redis-cluster://)")),
    key("redis_use_sentinel", Bool, Becomes("session.redis.url (redis-sentinel://)")),
    key("redis_username", Text, Becomes("session.redis.url")),
    key(
        "relative_redirect_url",
        Bool,
        Without(
            "false",
            "the callback is {public_url}{prefix}/callback, and that of each route's host: register them (`doorward check` prints them)",
        ),
    ),
    key("request_id_header", Text, Without("X-Request-Id", "the request id is X-Request-Id")),
    key("request_logging", Bool, Becomes("telemetry.access_log")),
    key("request_logging_format", Text, Without("", LOG_FORMAT)),
    key("resource", Text, Becomes("provider.NAME.extra_params.resource")),
    key("reverse_proxy", Bool, Becomes("server.trusted_proxies")),
    key("scope", Text, Becomes("provider.NAME.scopes")),
    key(
        "session_cookie_minimal",
        Bool,
        Without(
            "false",
            "the cookie is compressed and holds tokens only where something uses them; store = \"redis\" makes it short",
        ),
    ),
    key("session_store_type", Text, Becomes("session.store")),
    key("set_authorization_header", Bool, Becomes("route.upstream_auth.kind = \"id_token\"")),
    key(
        "set_basic_auth",
        Bool,
        Without(
            "false",
            "no header has each person's name with one shared password; applications read the identity headers",
        ),
    ),
    key("set_xauthrequest", Bool, Becomes("route.identity \"x-auth-request\"")),
    key(
        "show_debug_on_error",
        Bool,
        Without("false", "error pages show a request id; the reason is in the log under it"),
    ),
    key(
        "signature_key",
        Text,
        Without(
            "",
            "requests are not signed; identity = [\"assertion\"] sends a signed JWT that the application can verify",
        ),
    ),
    key("silence_ping_logging", Bool, Without("false", "every request has its line in the access log")),
    key("skip_auth_preflight", Bool, Becomes("route.allow_preflight")),
    key("skip_auth_regex", List, Becomes("route.access = \"public\"")),
    plural("skip_auth_routes", "skip-auth-route", Becomes("route.access = \"public\"")),
    key(
        "skip_auth_strip_headers",
        Bool,
        Without("true", "identity headers of clients are removed on every route, public ones too"),
    ),
    key(
        "skip_claims_from_profile_url",
        Bool,
        Without(
            "false",
            "userinfo is asked for a claim that something needs and the ID token lacks, and otherwise not",
        ),
    ),
    key("skip_jwt_bearer_tokens", Bool, Becomes("route.machine")),
    key("skip_oidc_discovery", Bool, Without("false", DISCOVERY)),
    key(
        "skip_provider_button",
        Bool,
        Without("true", "with one provider a page load goes there at once; a page to choose from is for several"),
    ),
    key(
        "ssl_insecure_skip_verify",
        Bool,
        Without("false", "certificates are always verified: name the authority's PEM file in [provider.NAME] ca"),
    ),
    key(
        "ssl_upstream_insecure_skip_verify",
        Bool,
        Without(
            "false",
            "certificates are always verified: name the authority's PEM file in [route.upstream_options] ca",
        ),
    ),
    key("standard_logging", Bool, Without("true", "what is logged is said by [telemetry] log")),
    key("standard_logging_format", Text, Without("", LOG_FORMAT)),
    key("tls_cert_file", Text, Becomes("server.tls.cert")),
    plural(
        "tls_cipher_suites",
        "tls-cipher-suite",
        Without("", "the cipher suites are those of TLS 1.3, and of TLS 1.2 those with forward secrecy and AEAD"),
    ),
    key("tls_key_file", Text, Becomes("server.tls.key")),
    key("tls_min_version", Text, Becomes("server.tls.min_version")),
    plural("trusted_ips", "trusted-ip", Becomes("policy.NAME.allow network")),
    plural("trusted_proxy_ips", "trusted-proxy-ip", Becomes("server.trusted_proxies")),
    key("upstream_timeout", Text, Becomes("route.upstream_options.response_timeout")),
    plural("upstreams", "upstream", Becomes("route.upstream")),
    key(
        "use_system_trust_store",
        Bool,
        Without("false", "a provider's `ca` takes the place of the machine's authorities"),
    ),
    key("user_id_claim", Text, Becomes("provider.NAME.claims.email")),
    key("validate_url", Text, Becomes("provider.NAME.userinfo_url, emails_url (GitHub's shape only)")),
    plural("whitelist_domains", "whitelist-domain", Becomes("a route for each host, where another proxy asks")),
];

/// By its name in the file.
pub fn named(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// By its name as a flag, without dashes before it; the plural of a list is taken too.
pub fn flagged(flag: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.flag == flag).or_else(|| named(&flag.replace('-', "_")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_stands_once_and_in_order() {
        assert!(KEYS.is_sorted_by(|a, b| a.name < b.name));
        assert!(KEYS.iter().all(|key| key.flag.is_empty() || key.kind == List));
    }

    #[test]
    fn flags_have_their_keys() {
        for (flag, name) in [
            ("email-domain", "email_domains"),
            ("upstream", "upstreams"),
            ("cookie-secret", "cookie_secret"),
            ("extra-jwt-issuers", "extra_jwt_issuers"),
            ("google-group", "google_groups"),
        ] {
            assert_eq!(flagged(flag).map(|key| key.name), Some(name), "{flag}");
        }
        assert!(flagged("config").is_none());
    }
}
