//! Kubernetes manifests: the container that is oauth2-proxy, the ConfigMaps that it reads, and the Ingresses that ask it.
//! What only a Secret knows stays a variable's name.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::super::options::{IngressHost, Note, Options};
use super::references::{By, Source, Variables};
use super::{Structured, args, is_structured, legacy, ours, text, texts, yaml};

const NGINX: &str = "nginx.ingress.kubernetes.io/";

/// The documents of one file.
#[derive(Default)]
pub(super) struct Found {
    /// Each ConfigMap by its name.
    maps: BTreeMap<String, BTreeMap<String, String>>,
    containers: Vec<Value>,
    ingresses: Vec<Value>,
}

impl Found {
    pub(super) fn document(&mut self, document: &Map<String, Value>) {
        let value = Value::Object(document.clone());
        match text(document.get("kind")) {
            Some("List") => {
                let items = document.get("items").and_then(Value::as_array);
                items.into_iter().flatten().filter_map(Value::as_object).for_each(|item| self.document(item));
            }
            Some("ConfigMap") => {
                let name = text(value.pointer("/metadata/name")).unwrap_or_default().to_owned();
                let data = document.get("data").and_then(Value::as_object).into_iter().flatten();
                let data = data.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
                self.maps.insert(name, data);
            }
            Some("Ingress") => self.ingresses.push(value),
            Some(_) => {
                let pods = ["/spec/template/spec", "/spec/jobTemplate/spec/template/spec", "/spec"];
                let containers = pods.iter().find_map(|path| value.pointer(path)?.get("containers")?.as_array());
                self.containers.extend(containers.into_iter().flatten().cloned());
            }
            None => {}
        }
    }

    /// Returns the configuration files that are named and not among the documents. `outside`: variables that other files
    /// tell.
    pub(super) fn read(
        &self,
        file: &str,
        outside: &Variables,
        variables: &mut Variables,
        structured: &mut Vec<Structured>,
        options: &mut Options,
    ) -> Result<Vec<String>, Note> {
        let mut wanted = Vec::new();
        let named = self.containers.iter().map(|one| (text(one.get("name")).unwrap_or_default(), one));
        let containers = ours(named.collect(), file, options);
        for container in &containers {
            let own = self.environment(container, file, outside, options);
            let source = Source { file, by: By::Kubernetes, known: &[&own, outside] };
            for key in ["command", "args"] {
                let words = args::command(&texts(container.get(key)));
                wanted.extend(args::flags(&words, source, options));
            }
            variables.extend(own);
        }
        if !containers.is_empty() || self.ingresses.is_empty() {
            self.config_files(file, outside, structured, options)?;
        }
        for ingress in &self.ingresses {
            self::ingress(ingress, file, options);
        }
        let is_there = |base: &String| self.maps.values().any(|data| data.contains_key(base));
        wanted.retain(|base| !is_there(base));
        Ok(wanted)
    }

    /// Returns the variables of the container whose values are here. Each may name those before it.
    fn environment(&self, container: &Value, file: &str, outside: &Variables, options: &mut Options) -> Variables {
        let mut own = Variables::new();
        for from in container.get("envFrom").and_then(Value::as_array).into_iter().flatten() {
            match text(from.pointer("/configMapRef/name")).and_then(|name| self.maps.get(name)) {
                Some(data) => {
                    let prefix = text(from.get("prefix")).unwrap_or_default();
                    own.extend(data.iter().map(|(name, value)| (format!("{prefix}{name}"), value.clone())));
                }
                None => options.warn("", format!("{file}: envFrom names what is not in this file; give OAUTH2_PROXY_ variables that are no secrets as lines NAME=value in a text file")),
            }
        }
        // What comes from a ConfigMap, whole or by one key, has no references.
        let as_it_is = Source { file, by: By::Nobody, known: &[] };
        for (name, value) in &own {
            args::variable(name, Some(value), as_it_is, options);
        }
        for variable in container.get("env").and_then(Value::as_array).into_iter().flatten() {
            let Some(name) = text(variable.get("name")) else { continue };
            let from = || {
                let of = variable.pointer("/valueFrom/configMapKeyRef")?;
                self.maps.get(text(of.get("name"))?)?.get(text(of.get("key"))?).map(String::as_str)
            };
            let source = Source { file, by: By::Kubernetes, known: &[&own, outside] };
            let value = match text(variable.get("value")) {
                Some(value) => {
                    args::variable(name, Some(value), source, options);
                    let filled = source.fill(value);
                    filled.text.filter(|_| filled.unknown.is_none())
                }
                None => {
                    args::variable(name, from(), as_it_is, options);
                    from().map(str::to_owned)
                }
            };
            // What came under this name before counts no more.
            own.remove(name);
            own.extend(value.map(|value| (name.to_owned(), value)));
        }
        own
    }

    /// ConfigMaps hold configuration files.
    fn config_files(
        &self,
        file: &str,
        outside: &Variables,
        structured: &mut Vec<Structured>,
        options: &mut Options,
    ) -> Result<(), Note> {
        for (key, body) in self.maps.values().flatten() {
            let name = format!("{key} in {file}");
            let is = |endings: &[&str]| endings.iter().any(|ending| key.ends_with(ending));
            if is(&[".cfg", ".toml"]) {
                let table = legacy::parse(body).map_err(|what| Note::new("", format!("{name}: {what}")))?;
                legacy::read(&table, Source { file: &name, by: By::Anybody, known: &[outside] }, options);
            } else if is(&[".yaml", ".yml"]) {
                let documents = yaml::documents(body).map_err(|what| Note::new("", format!("{name}: {what}")))?;
                let maps = documents.into_iter().filter_map(|document| match document {
                    Value::Object(map) if is_structured(&map) => Some((map, name.clone())),
                    _ => None,
                });
                structured.extend(maps);
            }
        }
        // Whatever other ConfigMaps name is nobody's list.
        let list =
            options.text("authenticated_emails_file").and_then(|path| path.rsplit('/').next()).map(str::to_owned);
        for (_, body) in self.maps.values().flatten().filter(|(key, _)| Some(*key) == list.as_ref()) {
            options.emails.extend(body.lines().map(str::trim).filter(|line| line.contains('@')).map(str::to_owned));
        }
        Ok(())
    }
}

/// An Ingress that asks oauth2-proxy has hosts to protect; one that leads to oauth2-proxy says where it is reached.
fn ingress(ingress: &Value, file: &str, options: &mut Options) {
    let name = text(ingress.pointer("/metadata/name")).unwrap_or("without a name");
    let annotations = ingress.pointer("/metadata/annotations").and_then(Value::as_object);
    let annotation = |key: &str| text(annotations?.get(&format!("{NGINX}{key}")));
    let rules: Vec<&Value> = ingress.pointer("/spec/rules").and_then(Value::as_array).into_iter().flatten().collect();
    let has_tls = ingress.pointer("/spec/tls").is_some();
    for rule in &rules {
        let Some(host) = text(rule.get("host")) else { continue };
        let paths: Vec<&Value> = rule.pointer("/http/paths").and_then(Value::as_array).into_iter().flatten().collect();
        let is_ours = |path: &&Value| {
            text(path.get("path")).is_some_and(|path| path.starts_with("/oauth2"))
                || text(path.pointer("/backend/service/name")).is_some_and(|name| name.contains("oauth2-proxy"))
        };
        if paths.iter().any(is_ours) {
            options.own_origins.push(format!("{}://{host}", if has_tls { "https" } else { "http" }));
        } else if annotation("auth-url").is_some() {
            options.ingress_hosts.push(IngressHost { ingress: name.to_owned(), host: host.to_owned() });
        }
    }
    let Some(url) = annotation("auth-url") else { return };
    let query = url.split_once('?').map(|(_, query)| format!("?{query}")).unwrap_or_default();
    let mut tell = |key: &str, what: String| options.warn(&format!("{key} of Ingress {name}"), what);
    tell(
        "auth-url",
        format!(
            "write the address of Doorward's service: http://doorward.NAMESPACE.svc.cluster.local:4180/oauth2/auth{query}; ingress-nginx tells the address that is asked for in X-Original-URL, and has to be in server.trusted_proxies ({file})"
        ),
    );
    for list in ["allowed_groups", "allowed_emails", "allowed_email_domains"] {
        let mut values = url::form_urlencoded::parse(query.trim_start_matches('?').as_bytes());
        if values.any(|(name, value)| name == list && value.trim_matches([',', ' ']).is_empty()) {
            tell(
                "auth-url",
                format!(
                    "{list} is empty there, by which oauth2-proxy lets everybody pass and Doorward nobody: fill it, or remove it"
                ),
            );
        }
    }
    if annotation("auth-signin").is_none() {
        tell("auth-signin", "without it a page load gets 401 and no sign-in: write https://HOST/oauth2/start?rd=$escaped_request_uri, and let /oauth2 of that host lead to Doorward".to_owned());
    }
    if let Some(headers) = annotation("auth-response-headers") {
        let missing: Vec<&str> = headers.split(',').map(str::trim).filter(|name| !known_header(name)).collect();
        if !missing.is_empty() {
            tell(
                "auth-response-headers",
                format!("Doorward's answer has no {} unless a route's identity sets it", missing.join(", ")),
            );
        }
    }
    for snippet in ["auth-snippet", "configuration-snippet", "server-snippet"] {
        if annotation(snippet).is_some() {
            tell(snippet, "look through it: Doorward's session cookie has another name and its parts are NAME.1, NAME.2; header names are the same".to_owned());
        }
    }
}

fn known_header(name: &str) -> bool {
    [
        "x-auth-request-user",
        "x-auth-request-email",
        "x-auth-request-groups",
        "x-auth-request-preferred-username",
        "set-cookie",
    ]
    .iter()
    .any(|known| name.eq_ignore_ascii_case(known))
}
