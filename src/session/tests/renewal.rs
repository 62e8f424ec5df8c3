//! Refresh: one call, whoever asks and wherever.

use super::*;

#[tokio::test]
async fn rf_01_fifty_that_ask_at_once_are_one_call_and_get_one_successor() {
    each_store(async |world| {
        let (here, there) = (world.replica(&[OLD]).await, world.replica(&[OLD]).await);
        world.op.tokens(json!({ "sid": "sid-1" }));
        let (session, jar) = sign_in(&world, &here, "alice", "sid-1", 0).await;
        let replicas = if world.is_shared() { vec![&here, &there] } else { vec![&here] };
        let mut asking = Vec::new();
        for n in 0..50 {
            let sessions = Arc::clone(replicas[n % replicas.len()]);
            let live = find(&sessions, &jar).await.unwrap();
            let flight = sessions.refresh(&live.session, &world.provider, |_| {}).unwrap();
            asking.push(tokio::spawn(flight.wait(Duration::from_secs(10))));
        }
        for asked in asking {
            let Outcome::Fresh(fresh) = asked.await.unwrap() else { panic!("somebody was left behind") };
            assert_eq!(fresh.data.tokens.access, Some(Secret::new("at-secret")));
            assert_eq!((fresh.data.id, fresh.data.expires_ms), (session.data.id, session.data.expires_ms));
        }
        assert_eq!(world.op.seen("/token").len(), 1);
        // Whoever comes late with the old cookie gets the successor too, and nobody asks again.
        let late = here.refresh(&session, &world.provider, |_| {}).unwrap();
        assert!(matches!(late.outcome(), Some(Outcome::Fresh(_))));
        assert_eq!(world.op.seen("/token").len(), 1);
    })
    .await;
}

#[tokio::test]
async fn o_07_a_refused_grant_ends_the_session_and_a_provider_that_is_away_does_not() {
    each_store(async |world| {
        let sessions = world.replica(&[OLD]).await;
        let (session, jar) = sign_in(&world, &sessions, "alice", "sid-1", 0).await;
        for answer in [Answer::json(503, "{}"), Answer::json(401, json!({ "error": "invalid_client" }))] {
            world.op.put("/token", answer);
            let flight = sessions.refresh(&session, &world.provider, |_| {}).unwrap();
            assert!(matches!(flight.wait(Duration::from_secs(10)).await, Outcome::Failed));
            assert!(find(&sessions, &jar).await.is_some());
            // Not before the pause is over.
            let sessions = Arc::clone(&sessions);
            let asked = world.op.seen("/token").len();
            world.op.put("/token", Answer::json(503, "{}"));
            eventually("the next try", async || {
                let _ = sessions.refresh(&session, &world.provider, |_| {});
                world.op.seen("/token").len() > asked
            })
            .await;
            eventually("its end", async || {
                let flight = sessions.refresh(&session, &world.provider, |_| {});
                flight.is_some_and(|f| f.outcome().is_some())
            })
            .await;
        }
        world.op.put("/token", Answer::json(400, json!({ "error": "invalid_grant" })));
        eventually("the refusal", async || {
            let flight = sessions.refresh(&session, &world.provider, |_| {}).unwrap();
            matches!(flight.wait(Duration::from_secs(10)).await, Outcome::Ended)
        })
        .await;
        assert!(find(&sessions, &jar).await.is_none());
    })
    .await;
}

#[tokio::test]
async fn rf_02_a_refusal_counts_only_if_nobody_else_was_quicker() {
    each_store(async |world| {
        if !world.is_shared() {
            return;
        }
        let (here, there) = (world.replica(&[OLD]).await, world.replica(&[OLD]).await);
        let (_, jar) = sign_in(&world, &here, "alice", "sid-1", 0).await;
        let (old, also_old) = (find(&here, &jar).await.unwrap().session, find(&there, &jar).await.unwrap().session);
        world.op.tokens(json!({}));
        let first = here.refresh(&old, &world.provider, |_| {}).unwrap().wait(Duration::from_secs(10)).await;
        assert!(matches!(first, Outcome::Fresh(_)));
        world.op.put("/token", Answer::json(400, json!({ "error": "invalid_grant" })));
        let second = there.refresh(&also_old, &world.provider, |_| {}).unwrap().wait(Duration::from_secs(10)).await;
        let Outcome::Fresh(fresh) = second else { panic!("a spent token was sent, and its refusal believed") };
        assert_eq!(fresh.data.tokens.access, Some(Secret::new("at-secret")));
        assert_eq!(world.op.seen("/token").len(), 1);
    })
    .await;
}

#[tokio::test]
async fn rf_11_access_tokens_of_any_lifetime_are_kept_and_renewed_in_bounds() {
    let op = Op::new().await;
    let provider = op.provider(|_| {});
    let state = Arc::new(State::new(Handle::current()));
    let sessions = Arc::new(Sessions::new(&settings(Store::Memory, None), &[], Vec::new(), true, state).unwrap());
    for (life, refresh_after) in
        [(0, None), (1, Some(500)), (100, Some(50_000)), (300, Some(240_000)), (u64::MAX, Some(0))]
    {
        let before = clock::unix_now_ms();
        let kept = sessions.tokens(tokens(life), None, &provider);
        match refresh_after {
            None => assert_eq!((kept.expires_ms, kept.refresh_ms), (None, None)),
            Some(0) => assert!(kept.refresh_ms.is_some() && kept.expires_ms == Some(u64::MAX)),
            Some(after) => {
                let at = kept.refresh_ms.unwrap();
                assert!((before + after..=clock::unix_now_ms() + after).contains(&at), "{life} s");
                assert!(at < kept.expires_ms.unwrap());
            }
        }
    }
}
