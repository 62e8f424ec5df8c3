//! Sign-ins that are handed over to another host.

use super::super::hand_over::Request;
use super::super::login::{Login, Wanted};
use super::*;

const HERE: &str = "id.example";
const THERE: &str = "wiki.example";

fn login() -> Login {
    Login::new(&Wanted::hand_over("/page"))
}

#[tokio::test]
async fn s_08_a_ticket_is_for_one_host_one_sign_in_and_one_minute() {
    each_store(async |world| {
        let sessions = world.replica(&[OLD]).await;
        let (session, _) = sign_in(&world, &sessions, "alice", "sid-1", 300).await;
        let (own, foreign) = (login(), login());
        let request = Request::new(THERE, None, None, &own);
        let now = clock::unix_now_ms();
        let Some(ticket) = sessions.seal_ticket(&session, &request, now) else {
            assert!(session.stored.is_none(), "two cookies would hold one refresh token");
            return;
        };
        let open = async |host, login, at| sessions.open_ticket(&ticket, host, login, at).await.unwrap();
        let opened = open(THERE, &own, now + 59_999).await.unwrap();
        assert_eq!(opened.key, session.key, "the same record");
        assert!(open("blog.example", &own, now).await.is_none(), "another host");
        assert!(open(THERE, &foreign, now).await.is_none(), "another browser's sign-in");
        assert!(open(THERE, &own, now + 60_000).await.is_none(), "too late");
        sessions.revoke(&session).await.unwrap();
        assert!(open(THERE, &own, now).await.is_none(), "signed out");
    })
    .await;
}

#[tokio::test]
async fn s_07_a_request_is_no_ticket_and_is_read_where_it_was_sent_only() {
    each_store(async |world| {
        let sessions = world.replica(&[OLD]).await;
        let own = login();
        let sealed = sessions.seal_request(&Request::new(THERE, Some("wiki"), Some("main"), &own), HERE).unwrap();
        let read = sessions.open_request(&sealed, HERE, own.started_ms).unwrap();
        assert_eq!((read.host.as_str(), read.route.as_deref()), (THERE, Some("wiki")));
        assert_eq!((read.provider.as_deref(), &read.state), (Some("main"), &own.state));
        assert!(sessions.open_request(&sealed, THERE, own.started_ms).is_none());
        assert!(sessions.open_request(&sealed, HERE, own.started_ms + 600_001).is_none(), "older than the sign-in");
        for text in [sealed.as_str(), ""] {
            assert!(sessions.open_ticket(text, THERE, &own, own.started_ms).await.unwrap().is_none());
        }
    })
    .await;
}
