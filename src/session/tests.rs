//! What every store promises of sessions, held to by one suite: each case runs for `cookie`, `memory` and `redis`.

mod endings;
mod hand_over;
mod renewal;

use std::sync::Arc;
use std::time::Duration;

use http::header::{COOKIE, HeaderMap, HeaderValue};
use serde_json::json;
use tokio::runtime::Handle;

use super::Session;
use super::data::{Begun, Tokens};
use super::ending::Whose;
use super::identity::Identity;
use super::lookup::{Live, Lookup};
use super::manager::Sessions;
use super::refresh::Outcome;
use super::state::State;
use crate::clock;
use crate::config::settings::{self, RedisServers, SameSite, Store};
use crate::http::cookie::Found;
use crate::provider::testing::{Answer, Op};
use crate::provider::{self, Provider};
use crate::secret::Secret;
use crate::store::redis::testing::settings as redis;
use crate::store::testing::{Server, eventually};

const NAME: &str = "doorward";
const HOST: &str = "app.example.com";
const OLD: &str = "the old key, thirty-two bytes long..";
const NEW: &str = "the new key, thirty-two bytes long..";

/// One store, and what is needed to make gateways that use it.
struct World {
    settings: settings::Session,
    op: Arc<Op>,
    provider: Arc<Provider>,
    /// Where there is one.
    _server: Option<Server>,
}

/// Runs `case` once for each store. A Redis that is not installed is skipped, and said to be, except where tests are strict.
async fn each_store<F: Future<Output = ()>>(case: impl Fn(Arc<World>) -> F) {
    for store in [Store::Cookie, Store::Memory, Store::Redis] {
        let server = match store {
            Store::Redis => match Server::start(&[]) {
                Some(server) => Some(server),
                None => continue,
            },
            Store::Cookie | Store::Memory => None,
        };
        let op = Op::new().await;
        let settings = settings(store, server.as_ref().map(|s| redis(RedisServers::One("127.0.0.1".into(), s.port))));
        let provider = op.provider(|_| {});
        println!("{store:?}");
        case(Arc::new(World { settings, op, provider, _server: server })).await;
    }
}

fn settings(store: Store, redis: Option<settings::Redis>) -> settings::Session {
    settings::Session {
        keys: vec![Secret::new(OLD)],
        cookie: NAME.into(),
        cookie_domain: None,
        same_site: SameSite::Lax,
        lifetime: Duration::from_secs(3600),
        idle_timeout: Duration::from_secs(600),
        refresh_before: Duration::from_secs(60),
        refresh_grace: Duration::from_secs(60),
        store,
        hand_over: false,
        redis,
    }
}

impl World {
    /// A gateway of its own: another replica, or the same after a restart.
    async fn replica(&self, keys: &[&str]) -> Arc<Sessions> {
        self.reloaded(&Arc::new(State::new(Handle::current())), keys).await
    }

    /// The same gateway with another configuration.
    async fn reloaded(&self, state: &Arc<State>, keys: &[&str]) -> Arc<Sessions> {
        let keys = keys.iter().map(|k| Secret::new(*k)).collect();
        let settings = settings::Session { keys, ..self.settings.clone() };
        let sessions = Arc::new(Sessions::new(&settings, &[], Vec::new(), true, Arc::clone(state)).unwrap());
        eventually("the store is there", async || sessions.is_store_up()).await;
        sessions
    }

    fn is_shared(&self) -> bool {
        self.settings.store == Store::Redis
    }
}

/// What a browser holds.
#[derive(Clone, Default)]
struct Jar(HeaderMap);

impl Jar {
    fn keep(&mut self, cookies: &[HeaderValue]) {
        let pairs: Vec<String> = cookies
            .iter()
            .filter_map(|c| c.to_str().unwrap().split(';').next())
            .filter(|pair| !pair.ends_with('='))
            .map(str::to_owned)
            .collect();
        self.0.insert(COOKIE, HeaderValue::from_str(&pairs.join("; ")).unwrap());
    }

    fn found(&self) -> Found<'_> {
        Found::scan(&self.0, NAME)
    }
}

fn tokens(expires_in: u64) -> provider::Tokens {
    provider::Tokens {
        access: Secret::new("access-secret"),
        refresh: Some(Secret::new("refresh-secret")),
        id: Some(Secret::new("id-secret")),
        expires_in: Some(expires_in),
    }
}

fn identity(sub: &str, sid: &str) -> Identity {
    Identity {
        sub: sub.into(),
        user: sub.into(),
        email: Some(format!("{sub}@example.com")),
        sid: Some(sid.into()),
        ..Identity::default()
    }
}

/// A sign-in: the session and the browser that holds it.
async fn sign_in(
    world: &World,
    sessions: &Arc<Sessions>,
    sub: &str,
    sid: &str,
    expires_in: u64,
) -> (Arc<Session>, Jar) {
    let tokens: Tokens = sessions.tokens(tokens(expires_in), None, &world.provider);
    let begun = Begun { browser: "Firefox on Linux".into(), address: Some([192, 0, 2, 1].into()) };
    let session = sessions.create(&world.provider, identity(sub, sid), tokens, begun).await.unwrap();
    let mut jar = Jar::default();
    let cookies = sessions.issue(&session, HOST, &jar.found()).unwrap();
    jar.keep(&cookies);
    (session, jar)
}

async fn find_at(sessions: &Sessions, jar: &Jar, now_ms: u64) -> Option<Live> {
    match sessions.find(&jar.found(), HOST, now_ms).await.unwrap() {
        Lookup::Live(live) => Some(live),
        Lookup::Absent | Lookup::Refused => None,
    }
}

async fn find(sessions: &Sessions, jar: &Jar) -> Option<Live> {
    find_at(sessions, jar, clock::unix_now_ms()).await
}

/// Waits until `jar` opens nothing at `sessions`.
async fn gone(sessions: &Sessions, jar: &Jar) {
    eventually("the session is gone", async || find(sessions, jar).await.is_none()).await;
}

#[tokio::test]
async fn s_19_s_08_a_session_is_found_by_its_cookie_at_its_host_and_nowhere_else() {
    each_store(async |world| {
        let sessions = world.replica(&[OLD]).await;
        let (session, jar) = sign_in(&world, &sessions, "alice", "sid-1", 300).await;
        let (other, _) = sign_in(&world, &sessions, "alice", "sid-1", 300).await;
        assert_ne!(session.data.id, other.data.id);
        let live = find(&sessions, &jar).await.unwrap();
        assert_eq!(live.session.data.identity, session.data.identity);
        assert_eq!(live.session.data.tokens.refresh, session.data.tokens.refresh);
        assert!(!live.stale && !sessions.is_untouched(&live.session, clock::unix_now_ms()));
        let elsewhere = sessions.find(&jar.found(), "other.example.com", clock::unix_now_ms()).await.unwrap();
        assert!(matches!(elsewhere, Lookup::Refused));
        assert!(matches!(sessions.find(&Jar::default().found(), HOST, 0).await.unwrap(), Lookup::Absent));
    })
    .await;
}

#[tokio::test]
async fn s_05_neither_use_nor_refresh_outlives_the_lifetime_and_a_pause_ends_it() {
    each_store(async |world| {
        let sessions = world.replica(&[OLD]).await;
        let (session, mut jar) = sign_in(&world, &sessions, "alice", "sid-1", 300).await;
        let begun = session.data.created_ms;
        let late = find_at(&sessions, &jar, begun + 599_000).await.unwrap();
        assert!(sessions.is_untouched(&late.session, begun + 599_000));
        assert!(find_at(&sessions, &jar, begun + 601_000).await.is_none(), "idle");
        if let Some(touched) = sessions.touch(&session) {
            assert_eq!(touched.data.expires_ms, session.data.expires_ms);
            let cookies = sessions.issue(&touched, HOST, &jar.found()).unwrap();
            jar.keep(&cookies);
        }
        assert!(find_at(&sessions, &jar, session.data.expires_ms).await.is_none(), "absolute");
    })
    .await;
}

#[tokio::test]
async fn rf_10_a_clock_that_jumps_ends_nothing_for_good_and_breaks_nothing() {
    each_store(async |world| {
        let sessions = world.replica(&[OLD]).await;
        let (session, jar) = sign_in(&world, &sessions, "alice", "sid-1", 300).await;
        let begun = session.data.created_ms;
        for (now_ms, alive) in [
            (begun - 3_600_000, true),
            (begun + 86_400_000, false),
            (begun, true),
            (0, true),
            (1 << 32, true),
            (1_000 << 32, false),
            (u64::MAX, false),
            (begun + 1, true),
        ] {
            assert_eq!(find_at(&sessions, &jar, now_ms).await.is_some(), alive, "at {now_ms}");
            let _ = (Sessions::wants_refresh(&session, now_ms), sessions.good_until(&session, now_ms));
        }
    })
    .await;
}

#[tokio::test]
async fn s_04_what_was_ended_opens_no_more_here_or_at_another_replica() {
    each_store(async |world| {
        let (here, there) = (world.replica(&[OLD]).await, world.replica(&[OLD]).await);
        let (session, jar) = sign_in(&world, &here, "alice", "sid-1", 300).await;
        if world.is_shared() {
            assert!(find(&there, &jar).await.is_some(), "another replica knows it");
        }
        here.revoke(&session).await.unwrap();
        assert!(find(&here, &jar).await.is_none());
        if world.is_shared() {
            gone(&there, &jar).await;
        }
        here.revoke(&session).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn s_13_an_older_key_opens_and_everything_moves_to_the_new_one() {
    each_store(async |world| {
        let before = world.replica(&[OLD]).await;
        let (_, mut jar) = sign_in(&world, &before, "alice", "sid-1", 300).await;
        let state = Arc::clone(&before.state);
        let between = world.reloaded(&state, &[NEW, OLD]).await;
        let live = find(&between, &jar).await.unwrap();
        assert!(live.stale);
        let cookies = between.issue(&live.session, HOST, &jar.found()).unwrap();
        jar.keep(&cookies);
        let after = world.reloaded(&state, &[NEW]).await;
        eventually("the record is sealed anew", async || find(&after, &jar).await.is_some()).await;
        assert!(find(&after, &jar).await.is_some_and(|live| !live.stale));
        let listed = after.list(Whose::User("alice")).await.unwrap();
        assert_eq!(listed.len(), 1, "the list moves along");
    })
    .await;
}

#[tokio::test]
async fn s_04_a_session_moves_from_the_cookie_into_a_store_once() {
    each_store(async |world| {
        let before = world.replica(&[OLD]).await;
        let in_cookie = settings::Session { store: Store::Cookie, ..world.settings.clone() };
        let earlier = Arc::new(Sessions::new(&in_cookie, &[], Vec::new(), true, Arc::clone(&before.state)).unwrap());
        let (session, old) = sign_in(&world, &earlier, "alice", "sid-1", 300).await;

        let now = world.reloaded(&before.state, &[OLD]).await;
        let many = (0..20).map(|_| {
            let (now, old) = (Arc::clone(&now), old.clone());
            tokio::spawn(async move { find(&now, &old).await.map(|live| live.session.data.id) })
        });
        for found in many.collect::<Vec<_>>() {
            assert_eq!(found.await.unwrap(), Some(session.data.id));
        }
        let live = find(&now, &old).await.unwrap();
        assert_eq!(live.stale, world.settings.store != Store::Cookie);
        let mut new = old.clone();
        let cookies = now.issue(&live.session, HOST, &old.found()).unwrap();
        new.keep(&cookies);
        assert!(find(&now, &new).await.is_some());
        assert_eq!(now.list(Whose::User("alice")).await.unwrap().len(), 1);
        now.revoke(&live.session).await.unwrap();
        let restarted = if world.is_shared() { world.replica(&[OLD]).await } else { now };
        assert!(find(&restarted, &new).await.is_none());
        assert!(find(&restarted, &old).await.is_none(), "a copy of the old cookie brings nothing back");
    })
    .await;
}

#[tokio::test]
async fn bl_04_somebody_s_sessions_are_listed_and_ended_together() {
    each_store(async |world| {
        let sessions = world.replica(&[OLD]).await;
        let (_, desk) = sign_in(&world, &sessions, "alice", "sid-1", 300).await;
        let (_, phone) = sign_in(&world, &sessions, "alice", "sid-2", 300).await;
        let (_, bob) = sign_in(&world, &sessions, "bob", "sid-3", 300).await;
        let issuer = world.provider.issuer();
        let alice = Whose::Subject { issuer, sub: "alice" };
        let cards = sessions.list(alice).await.unwrap();
        assert_eq!(cards.len(), 2);
        assert!(cards.iter().all(|c| c.user == "alice" && c.begun.browser == "Firefox on Linux"));
        assert_eq!(sessions.list(Whose::User("bob")).await.unwrap().len(), 1);
        assert_eq!(
            sessions.list(Whose::Subject { issuer: "https://other.example.com", sub: "alice" }).await.unwrap().len(),
            0
        );

        let wrong = Whose::SubjectSid { issuer, sub: "bob", sid: "sid-1" };
        assert_eq!(sessions.end_all(wrong, true).await.unwrap(), 0, "OX-05: the sid of somebody else");
        assert!(find(&sessions, &desk).await.is_some());
        assert_eq!(sessions.end_all(Whose::Sid { issuer, sid: "sid-1" }, false).await.unwrap(), 1);
        assert!(find(&sessions, &desk).await.is_none() && find(&sessions, &phone).await.is_some());
        assert_eq!(sessions.end_all(alice, true).await.unwrap(), 1);
        assert!(find(&sessions, &phone).await.is_none() && find(&sessions, &bob).await.is_some());
        assert!(sessions.list(alice).await.unwrap().is_empty());

        let then = clock::unix_now_ms();
        eventually("the clock moves", async || clock::unix_now_ms() > then).await;
        let (_, again) = sign_in(&world, &sessions, "alice", "sid-4", 300).await;
        assert!(find(&sessions, &again).await.is_some(), "a later sign-in is not ended by an earlier logout");
        let id = sessions.list(alice).await.unwrap().first().unwrap().key;
        assert!(sessions.end_key(&id).await.unwrap() && !sessions.end_key(&id).await.unwrap());
        assert!(find(&sessions, &again).await.is_none());
    })
    .await;
}

#[tokio::test]
async fn ox_09_a_logout_at_one_replica_ends_the_session_at_another() {
    each_store(async |world| {
        if !world.is_shared() {
            return;
        }
        let (here, there) = (world.replica(&[OLD]).await, world.replica(&[NEW, OLD]).await);
        let (_, jar) = sign_in(&world, &here, "alice", "sid-1", 300).await;
        let live = find(&there, &jar).await.unwrap();
        let stream = tokio::spawn(Arc::clone(&there).ended(live.session));
        let issuer = world.provider.issuer();
        here.end_all(Whose::Subject { issuer, sub: "alice" }, true).await.unwrap();
        gone(&there, &jar).await;
        tokio::time::timeout(Duration::from_secs(2), stream).await.expect("the stream is told within 2 s").unwrap();
    })
    .await;
}

#[tokio::test]
async fn l_07_a_mark_is_set_once_wherever_the_store_is_shared() {
    each_store(async |world| {
        let (here, there) = (world.replica(&[OLD]).await, world.replica(&[OLD]).await);
        let minute = Duration::from_secs(60);
        assert!(here.first("jti", "a", minute).await.unwrap());
        assert!(!here.first("jti", "a", minute).await.unwrap());
        assert!(here.first("other", "a", minute).await.unwrap() && here.first("jti", "b", minute).await.unwrap());
        assert_eq!(there.first("jti", "a", minute).await.unwrap(), !world.is_shared());
    })
    .await;
}

#[tokio::test]
async fn ox_08_a_session_that_ended_during_its_refresh_stays_dead() {
    each_store(async |world| {
        let sessions = world.replica(&[OLD]).await;
        let (session, jar) = sign_in(&world, &sessions, "alice", "sid-1", 0).await;
        world.op.put("/token", Answer { hangs: true, ..Answer::json(200, "") });
        let provider = world.op.provider(|p| p.timeout = Duration::from_secs(2));
        let flight = sessions.refresh(&session, &provider, |_| {}).unwrap();
        eventually("the call", async || !world.op.seen("/token").is_empty()).await;
        sessions.revoke(&session).await.unwrap();
        assert!(!matches!(flight.wait(Duration::from_secs(10)).await, Outcome::Fresh(_)));
        assert!(find(&sessions, &jar).await.is_none());
    })
    .await;
}

#[tokio::test]
async fn s_23_a_record_under_another_name_or_without_its_cookie_opens_nothing() {
    each_store(async |world| {
        let sessions = world.replica(&[OLD]).await;
        let (alice, alices) = sign_in(&world, &sessions, "alice", "sid-1", 300).await;
        let (bob, bobs) = sign_in(&world, &sessions, "bob", "sid-2", 300).await;
        if alice.stored.is_none() {
            return;
        }
        let moved = sessions.store.load(&alice.key).await.unwrap().unwrap();
        let text = format!("{moved:?}{:?}", alice.key);
        assert!(!text.contains("alice") && !text.contains("secret"));
        let mut entry = sessions.entry(&bob).unwrap();
        entry.record = moved;
        sessions.store.create(entry).await.unwrap();
        sessions.state.local.front.remove(&bob.key);
        assert!(find(&sessions, &bobs).await.is_none(), "alice's record under bob's name");
        assert!(sessions.list(Whose::User("bob")).await.unwrap().is_empty());
        assert!(find(&sessions, &alices).await.is_some());
    })
    .await;
}

#[tokio::test]
async fn a_person_s_oldest_session_makes_room_when_no_more_can_be_found_together() {
    each_store(async |world| {
        let sessions = world.replica(&[OLD]).await;
        let (_, first) = sign_in(&world, &sessions, "alice", "sid-1", 300).await;
        for _ in 0..crate::store::MAX_TAGGED {
            sign_in(&world, &sessions, "alice", "sid-1", 300).await;
        }
        gone(&sessions, &first).await;
        let issuer = world.provider.issuer();
        let ended = sessions.end_all(Whose::Subject { issuer, sub: "alice" }, true).await.unwrap();
        assert_eq!(ended, crate::store::MAX_TAGGED);
    })
    .await;
}
