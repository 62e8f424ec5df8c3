use proptest::prelude::*;

use super::*;
use crate::config::settings::{
    Access, Mode, Require, Target, Unauthenticated, Upstream, UpstreamAuth, UpstreamOptions,
};

fn route(host: &str, path: &str, methods: &[&str]) -> Route {
    let host = match (host, host.strip_prefix("*.")) {
        ("", _) => HostMatch::Any,
        (_, Some(rest)) => HostMatch::Wildcard(rest.to_owned()),
        (host, None) => HostMatch::Exact(host.to_owned()),
    };
    let path = match path.strip_prefix('=') {
        Some(exact) => PathMatch::Exact(exact.to_owned()),
        None => PathMatch::Prefix(path.to_owned()),
    };
    Route {
        name: String::new(),
        host,
        path,
        methods: methods.iter().map(|m| (*m).to_owned()).collect(),
        upstream: Upstream { targets: vec![Target::Status(204)], options: UpstreamOptions::default() },
        access: Access::Public,
        unauthenticated: Unauthenticated::Auto,
        providers: Vec::new(),
        client_cert: false,
        identity: Vec::new(),
        require: Require::default(),
        origins: Vec::new(),
        strip_prefix: None,
        machine: None,
        upstream_auth: UpstreamAuth::None,
        mode: Mode::Enforce,
        raw_path: false,
        allow_preflight: false,
    }
}

fn table(routes: &[(&str, &str, &[&str])]) -> Table {
    Table::new(&routes.iter().map(|(h, p, m)| route(h, p, m)).collect::<Vec<_>>())
}

#[test]
fn px_11_prefixes_end_at_segments() {
    let table = table(&[("", "/public", &[]), ("", "=/exact", &[])]);
    for path in ["/public", "/public/", "/public/x", "/public/x/y"] {
        assert_eq!(table.select("h", path, "GET"), Selection::Route(0), "{path}");
    }
    for path in ["/publicx", "/publi", "/", "/x/public", "/Public", "public", "", "*"] {
        assert_eq!(table.select("h", path, "GET"), Selection::NotFound, "{path}");
    }
    assert_eq!(table.select("h", "/exact", "GET"), Selection::Route(1));
    assert_eq!(table.select("h", "/exact/", "GET"), Selection::NotFound);
}

#[test]
fn px_26_the_most_specific_route_wins_in_any_order() {
    let mut routes: Vec<(&str, &str, &[&str])> = vec![
        ("", "/", &[]),
        ("", "/a", &[]),
        ("", "/a", &["POST"]),
        ("", "=/a", &[]),
        ("", "/a/b", &[]),
        ("*.example.com", "/", &[]),
        ("app.example.com", "/", &[]),
    ];
    let wanted: [(&str, &str, &str, usize); 10] = [
        ("h", "/", "GET", 0),
        ("h", "/x", "GET", 0),
        ("h", "/a", "GET", 3),
        ("h", "/a/", "GET", 1),
        ("h", "/a/x", "POST", 2),
        ("h", "/a/b/c", "POST", 4),
        ("x.example.com", "/a/b", "GET", 5),
        ("app.example.com", "/a/b", "GET", 6),
        ("x.y.example.com", "/a/b", "GET", 4),
        ("example.com", "/a", "GET", 3),
    ];
    let table_forward = table(&routes);
    routes.reverse();
    let table_backward = table(&routes);
    for (host, path, method, index) in wanted {
        assert_eq!(table_forward.select(host, path, method), Selection::Route(index), "{host}{path}");
        let mirrored = routes.len() - 1 - index;
        assert_eq!(table_backward.select(host, path, method), Selection::Route(mirrored), "{host}{path}");
    }
}

#[test]
fn px_26_what_excludes_the_method_is_no_candidate() {
    let table = table(&[("", "/", &["GET"]), ("a.b", "=/x", &["PUT"]), ("a.b", "/x", &["POST"])]);
    assert_eq!(table.select("a.b", "/x", "PUT"), Selection::Route(1));
    assert_eq!(table.select("a.b", "/x", "POST"), Selection::Route(2));
    assert_eq!(table.select("a.b", "/x", "GET"), Selection::Route(0));
    assert_eq!(table.select("a.b", "/x", "get"), Selection::MethodNotAllowed);
    assert_eq!(table.select("a.b", "/y", "POST"), Selection::MethodNotAllowed);
}

#[test]
fn px_19_the_methods_of_a_place() {
    let table = table(&[
        ("a.b", "=/x", &["PUT"]),
        ("a.b", "/x", &["POST", "PUT"]),
        ("a.b", "/x/y", &["PATCH"]),
        ("*.b", "/", &["DELETE"]),
        ("", "/", &["GET"]),
    ]);
    let methods = |host, path| table.methods(host, path).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(methods("a.b", "/x"), "DELETE GET POST PUT");
    assert_eq!(methods("a.b", "/x/y"), "DELETE GET PATCH POST PUT");
    assert_eq!(methods("b.b", "/x"), "DELETE GET");
    assert_eq!(methods("other", "/x"), "GET");
}

#[test]
fn px_26_paths_are_raw_only_where_the_raw_route_is_all_there_is() {
    let mut raw = route("*.a.b", "/", &[]);
    raw.raw_path = true;
    let table = Table::new(&[raw, route("x.a.b", "/app", &[]), route("", "/", &[])]);
    assert!(table.takes_raw("y.a.b"));
    for host in ["x.a.b", "a.b", "other", "p.y.a.b"] {
        assert!(!table.takes_raw(host), "{host}");
    }
    assert_eq!(table.select("x.a.b", "/other", "GET"), Selection::Route(0));
}

#[test]
fn hosts_that_routes_name() {
    let table = table(&[("", "/", &[]), ("a.b", "/", &[]), ("*.c.d", "/", &[])]);
    for yes in ["a.b", "x.c.d"] {
        assert!(table.knows_host(yes), "{yes}");
    }
    for no in ["b", "c.d", "x.y.c.d", ".c.d", "", "h"] {
        assert!(!table.knows_host(no), "{no}");
    }
}

/// How specific a match is; None = no match. Written without a look at the table.
fn specificity(route: &Route, host: &str, path: &str) -> Option<(u8, u8, usize, bool)> {
    let by_host = match &route.host {
        HostMatch::Any => 0,
        HostMatch::Wildcard(rest) => {
            let label = host.strip_suffix(&format!(".{rest}"))?;
            if label.is_empty() || label.contains('.') {
                return None;
            }
            1
        }
        HostMatch::Exact(exact) => {
            if exact != host {
                return None;
            }
            2
        }
    };
    let (exact, length) = match &route.path {
        PathMatch::Exact(exact) => (1, (exact == path).then_some(0)?),
        PathMatch::Prefix(prefix) => {
            let wanted: Vec<&str> = prefix.split('/').filter(|s| !s.is_empty()).collect();
            let given: Vec<&str> = path.split('/').skip(1).collect();
            (0, given.starts_with(&wanted).then_some(wanted.len())?)
        }
    };
    Some((by_host, exact, length, !route.methods.is_empty()))
}

fn oracle(routes: &[Route], host: &str, path: &str, method: &str) -> Selection {
    let matching = routes.iter().enumerate().filter_map(|(n, r)| Some((specificity(r, host, path)?, n, r)));
    let (fits, others): (Vec<_>, Vec<_>) =
        matching.partition(|(_, _, r)| r.methods.is_empty() || r.methods.iter().any(|m| m == method));
    match fits.iter().max_by_key(|(specificity, _, _)| *specificity) {
        Some((_, n, _)) => Selection::Route(*n),
        None if others.is_empty() => Selection::NotFound,
        None => Selection::MethodNotAllowed,
    }
}

prop_compose! {
    fn any_path()(segments in prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", "c"]), 0..4)) -> String {
        format!("/{}", segments.join("/"))
    }
}

prop_compose! {
    fn any_route()(
        host in prop::sample::select(vec!["", "a.b", "x.a.b", "*.a.b", "*.b"]),
        exact in any::<bool>(),
        path in any_path(),
        methods in prop::sample::select(vec![vec![], vec!["GET"], vec!["POST", "PUT"]]),
    ) -> Route {
        route(host, &if exact { format!("={path}") } else { path }, &methods)
    }
}

proptest! {
    #[test]
    fn px_26_agrees_with_a_naive_matcher(
        mut routes in prop::collection::vec(any_route(), 1..12),
        host in prop::sample::select(vec!["a.b", "x.a.b", "y.a.b", "z.b", "other", "p.q.a.b"]),
        path in any_path(),
        slash in any::<bool>(),
        method in prop::sample::select(vec!["GET", "POST", "PUT", "DELETE"]),
    ) {
        // As in a configuration that passed its checks: no two equally specific routes.
        let mut seen = Vec::new();
        routes.retain(|r| {
            let place = (r.host.clone(), r.path.clone(), r.methods.clone());
            let new = !seen.contains(&place);
            seen.push(place);
            new
        });
        let path = if slash && path != "/" { format!("{path}/") } else { path };
        prop_assert_eq!(
            Table::new(&routes).select(host, &path, method),
            oracle(&routes, host, &path, method)
        );
    }
}
