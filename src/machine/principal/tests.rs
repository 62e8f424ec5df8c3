use serde_json::json;

use super::*;
use crate::config::settings::{self, IdentityValue};

fn paths() -> Claims {
    Claims { user: "sub".into(), email: "email".into(), name: "name".into(), groups: "realm.roles".into() }
}

fn machine(claims: Value) -> Machine {
    let (paths, kept, custom) = (
        paths(),
        ["team".to_owned()],
        [CustomClaim {
            source: settings::Source::Claim("team".into()),
            form: settings::Form::Joined(",".into()),
            without: None,
        }],
    );
    let source = Source {
        section: "main",
        is_provider: true,
        issuer: "https://id.example.com",
        paths: &paths,
        skew: 30,
        kept: &kept,
        custom: &custom,
    };
    Machine::from_claims(claims.as_object().unwrap(), &source, Secret::new("t")).unwrap()
}

#[test]
fn a_person_that_a_client_acts_for_is_a_user_with_that_clients_name_beside() {
    let machine = machine(json!({
        "sub": "u1", "exp": 1000, "client_id": "app", "azp": "other", "scope": "read  write", "aud": ["api", "x"],
        "email": "alice@example.com", "email_verified": true, "realm": {"roles": ["staff"]}, "team": "red",
    }));
    assert!(!machine.is_service());
    assert_eq!((machine.identity.user.as_str(), machine.client.as_deref()), ("u1", Some("app")));
    assert_eq!(
        (machine.scopes, machine.audience),
        (vec!["read".to_owned(), "write".to_owned()], vec!["api".to_owned(), "x".to_owned()])
    );
    assert_eq!((machine.identity.groups, machine.expires_ms), (vec!["staff".to_owned()], 1_030_000));
    assert_eq!(machine.identity.kept["team"], ["red"]);
    assert_eq!(machine.client_header.unwrap(), "app");
    assert_eq!(machine.headers.get(&IdentityValue::User), ["u1"]);
    assert_eq!(machine.headers.get(&IdentityValue::Custom(0)), ["red"]);
}

#[test]
fn b_20_a_service_is_never_a_user_however_its_issuer_spells_it() {
    for claims in [
        json!({"sub": "billing", "client_id": "billing"}),
        json!({"sub": "billing", "azp": "billing"}),
        json!({"sub": "billing", "cid": "billing"}),
        json!({"sub": "billing@clients", "azp": "billing", "gty": "client-credentials"}),
        json!({"sub": "7", "azp": "billing", "gty": "client-credentials"}),
        json!({"sub": "7", "appid": "billing", "idtyp": "app"}),
        json!({"sub": "7", "azp": "billing", "preferred_username": "service-account-billing"}),
        json!({"sub": "7", "azp": "billing", "preferred_username": "service-account-BILLING"}),
    ] {
        let mut all = claims.clone();
        for (name, value) in [
            ("email", json!("alice@example.com")),
            ("email_verified", json!(true)),
            ("name", json!("Alice")),
            ("exp", json!(1)),
        ] {
            all[name] = value;
        }
        let machine = machine(all);
        assert!(machine.is_service(), "{claims}");
        assert_eq!((machine.client.as_deref(), machine.name()), (Some("billing"), "billing"), "{claims}");
        assert_eq!(machine.client_header.as_ref().unwrap(), "billing");
        assert!(
            machine.identity.email.is_none() && !machine.identity.email_verified && machine.identity.name.is_none()
        );
        for value in [IdentityValue::User, IdentityValue::Email, IdentityValue::Name, IdentityValue::PreferredUsername]
        {
            assert!(machine.headers.get(&value).is_empty(), "{claims} {value:?}");
        }
    }
    let person = machine(json!({"sub": "billing", "client_id": "app", "exp": 1}));
    assert!(!person.is_service());
}

#[test]
fn jx_29_scopes_are_whole_words_in_either_form() {
    for (claims, want) in [
        (json!({"scope": "a b"}), vec!["a", "b"]),
        (json!({"scope": ["a b", "c"]}), vec!["a b", "c"]),
        (json!({"scp": ["a", "b"]}), vec!["a", "b"]),
        (json!({"scp": "a b"}), vec!["a", "b"]),
        (json!({"scope": "notadmin ADMIN"}), vec!["notadmin", "ADMIN"]),
        (json!({"scope": 7}), vec![]),
        (json!({"scope": {"a": 1}}), vec![]),
        (json!({"scope": null, "scp": "a"}), vec![]),
        (json!({}), vec![]),
    ] {
        let mut all = claims.clone();
        all["sub"] = json!("u");
        assert_eq!(machine(all).scopes, want, "{claims}");
    }
}

#[test]
fn jx_29_no_scope_is_left_out_that_a_deny_rule_could_name() {
    let (paths, many) = (paths(), |n: usize| vec!["x"; n].join(" ") + " banned");
    let source =
        Source { section: "main", is_provider: true, issuer: "i", paths: &paths, skew: 0, kept: &[], custom: &[] };
    let of = |scope: String| {
        let claims = json!({"sub": "u1", "exp": 1, "scope": scope});
        Machine::from_claims(claims.as_object().unwrap(), &source, Secret::new("t"))
    };
    assert!(of(many(MOST - 1)).unwrap().scopes.contains(&"banned".to_owned()));
    assert!(of(many(MOST)).is_err());
}

#[test]
fn whoever_has_no_name_is_nobody() {
    let paths = Claims { user: "email".into(), ..paths() };
    let source =
        Source { section: "main", is_provider: true, issuer: "i", paths: &paths, skew: 0, kept: &[], custom: &[] };
    let claims = json!({"sub": "u1", "exp": 1});
    assert!(Machine::from_claims(claims.as_object().unwrap(), &source, Secret::new("t")).is_err());
}
