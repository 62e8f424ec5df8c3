//! Ends that come at a bad moment: while somebody leaves, signs in, looks away.

use super::super::state::HEARD;
use super::*;

#[tokio::test]
async fn ox_02_whoever_leaves_in_the_middle_of_a_sign_out_has_signed_out() {
    each_store(async |world| {
        let (here, there) = (world.replica(&[OLD]).await, world.replica(&[OLD]).await);
        let (session, jar) = sign_in(&world, &here, "alice", "sid-1", 300).await;
        assert!(find(&here, &jar).await.is_some());
        if world.is_shared() {
            assert!(find(&there, &jar).await.is_some(), "held in front of the store");
        }
        {
            let mut leaving = std::pin::pin!(here.revoke(&session));
            let waker = std::task::Waker::noop();
            let _ = leaving.as_mut().poll(&mut std::task::Context::from_waker(waker));
        }
        gone(&here, &jar).await;
        if world.is_shared() {
            gone(&there, &jar).await;
        }
    })
    .await;
}

#[tokio::test]
async fn ox_08_a_sign_in_that_an_end_of_all_overtook_leaves_nothing_in_the_store() {
    each_store(async |world| {
        let sessions = world.replica(&[OLD]).await;
        let issuer = world.provider.issuer();
        let (session, jar) = sign_in(&world, &sessions, "alice", "sid-1", 300).await;
        // As if its record were written only now: the look for it came before, the mark is there.
        let entry = sessions.entry(&session).unwrap();
        sessions.end_all(Whose::Subject { issuer, sub: "alice" }, true).await.unwrap();
        sessions.store.create(entry).await.unwrap();
        assert!(find(&sessions, &jar).await.is_none());
        if session.stored.is_none() {
            return;
        }
        // Else it would come back to life when the mark is forgotten.
        let is_gone = async || sessions.store.load(&session.key).await.unwrap().is_none();
        eventually("the record is gone", is_gone).await;
    })
    .await;
}

#[tokio::test]
async fn ox_08_a_sign_in_begun_before_an_end_of_all_is_not_completed_after_it() {
    each_store(async |world| {
        let sessions = world.replica(&[OLD]).await;
        let issuer = world.provider.issuer();
        let tag = sessions.ring.tags(&[b"sub", issuer.as_bytes(), b"alice"]).next().unwrap();
        sessions.state.local.ends.end_before(tag, clock::unix_now_ms() + 60_000, Duration::from_secs(600), true);
        let tokens: Tokens = sessions.tokens(tokens(300), None, &world.provider);
        let created = sessions.create(&world.provider, identity("alice", "sid-1"), tokens, Begun::default()).await;
        assert!(created.is_err());
        assert!(sessions.list(Whose::User("alice")).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn s_23_a_tag_that_was_tampered_with_shows_nobody_else_s_sessions() {
    each_store(async |world| {
        let sessions = world.replica(&[OLD]).await;
        let (_, bobs) = sign_in(&world, &sessions, "bob", "sid-2", 300).await;
        let (bob, _) = sign_in(&world, &sessions, "bob", "sid-2", 300).await;
        let issuer = world.provider.issuer();
        let alice = Whose::Subject { issuer, sub: "alice" };
        let mut entry = sessions.entry(&bob).unwrap();
        entry.tags = vec![sessions.ring.tags(&[b"sub", issuer.as_bytes(), b"alice"]).next().unwrap()];
        entry.record.seen_ms = u64::MAX;
        sessions.store.create(entry).await.unwrap();
        assert!(sessions.list(alice).await.unwrap().is_empty());
        assert_eq!(sessions.end_all(alice, true).await.unwrap(), 0);
        let cards = sessions.list(Whose::User("bob")).await.unwrap();
        assert!(cards.iter().all(|card| card.seen_ms <= card.expires_ms), "a time that no page can show");
        assert!(find(&sessions, &bobs).await.is_some());
    })
    .await;
}

#[tokio::test]
async fn ox_02_a_stream_notices_an_end_that_nobody_told_it_of() {
    each_store(async |world| {
        let sessions = world.replica(&[OLD]).await;
        let (session, _) = sign_in(&world, &sessions, "alice", "sid-1", 300).await;
        if session.stored.is_none() {
            return;
        }
        // Between its request and the first wait for it.
        sessions.store.remove(&session.key).await.unwrap();
        let stream = tokio::spawn(Arc::clone(&sessions).ended(session));
        tokio::time::timeout(Duration::from_secs(3), stream).await.expect("it ends").unwrap();
    })
    .await;
}

#[tokio::test]
async fn ox_02_a_stream_that_nobody_took_from_until_its_end_was_forgotten_ends_all_the_same() {
    each_store(async |world| {
        if world.settings.store != Store::Memory {
            return;
        }
        let sessions = world.replica(&[OLD]).await;
        let (session, _) = sign_in(&world, &sessions, "alice", "sid-1", 300).await;
        let mut stream = Box::pin(Arc::clone(&sessions).ended(Arc::clone(&session)));
        tokio::time::pause();
        assert!(tokio::time::timeout(Duration::from_secs(5), &mut stream).await.is_err(), "it lives");
        sessions.store.remove(&session.key).await.unwrap();
        tokio::time::advance(HEARD).await;
        tokio::time::timeout(Duration::from_secs(3), &mut stream).await.expect("it ends");
        tokio::time::resume();
    })
    .await;
}
