//! Direct methods. Time is paused: timeouts pass at once.

use crate::support::*;
use ostler_core::method::{MethodAnswer, MethodCall};
use ostler_core::record::Interest;
use ostler_hub::registry::Action;
use ostler_hub::session::{CallId, News, Session};
use ostler_hub::{Error, Hub, IfMatch};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

fn call(connect_secs: i64) -> MethodCall {
    MethodCall::new("reboot", b"{\"delay\":5}", Some(30), Some(connect_secs)).unwrap()
}

/// A back end's call of the device `d`, in a task of its own.
fn ask(hub: &Arc<Hub>, connect_secs: i64) -> JoinHandle<Result<MethodAnswer, Error>> {
    let hub = hub.clone();
    tokio::spawn(async move { hub.invoke(&id("d"), call(connect_secs)).await })
}

async fn next_call(session: &mut Session) -> CallId {
    match news(session).await {
        Ok(News::Call { id, name, payload }) => {
            assert_eq!((name.as_str(), &payload[..]), ("reboot", &b"{\"delay\":5}"[..]));
            id
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_and_its_answer() {
    let hub = hub().await;
    create(&hub, "d").await;
    let mut session = connect(&hub, "d", true).await;
    subscribe(&hub, &session, &[Interest::Methods]).await;
    let asked = ask(&hub, 0);
    let open = next_call(&mut session).await;
    hub.answer(session.state(), CallId(open.0 + 1), 200, b"1");
    hub.answer(session.state(), open, 418, b" {\"ok\": true} ");
    let answer = asked.await.unwrap().unwrap();
    assert_eq!(answer, MethodAnswer { status: 418, payload: (*b"{\"ok\": true}").into() });
    hub.answer(session.state(), open, 200, b"2");
    assert_eq!(hub.stats().method_late_answers.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn nobody_there() {
    let hub = hub().await;
    assert_eq!(hub.invoke(&id("x"), call(0)).await, Err(Error::DeviceNotFound("x".into())));
    create(&hub, "d").await;
    assert_eq!(hub.invoke(&id("d/m"), call(0)).await, Err(Error::ModuleNotFound("d/m".into())));
    let offline = |secs| Err(Error::DeviceNotOnline { waited: Duration::from_secs(secs) });
    assert_eq!(hub.invoke(&id("d"), call(0)).await, offline(0));
    assert_eq!(hub.invoke(&id("d"), call(7)).await, offline(7));
    let _deaf = connect(&hub, "d", true).await;
    assert_eq!(hub.invoke(&id("d"), call(0)).await, offline(0));
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_the_device() {
    let hub = hub().await;
    create(&hub, "d").await;
    let asked = ask(&hub, 60);
    tokio::task::yield_now().await;
    let mut session = connect(&hub, "d", true).await;
    subscribe(&hub, &session, &[Interest::Methods]).await;
    let open = next_call(&mut session).await;
    hub.answer(session.state(), open, 200, b"");
    assert_eq!(&asked.await.unwrap().unwrap().payload[..], b"null");
}

#[tokio::test(start_paused = true)]
async fn no_answer_and_bad_answers() {
    let hub = hub().await;
    create(&hub, "d").await;
    let mut session = connect(&hub, "d", true).await;
    subscribe(&hub, &session, &[Interest::Methods]).await;
    let timeout = Err(Error::MethodTimeout { waited: Duration::from_secs(30) });
    assert_eq!(hub.invoke(&id("d"), call(0)).await, timeout);
    let late = next_call(&mut session).await;
    hub.answer(session.state(), late, 200, b"");
    let asked = ask(&hub, 0);
    let open = next_call(&mut session).await;
    hub.answer(session.state(), open, 200, b"{nope");
    assert!(matches!(asked.await.unwrap(), Err(Error::BadDeviceAnswer(_))));
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_come_over_the_next_connection_but_from_nobody_else() {
    let hub = hub().await;
    create(&hub, "d").await;
    create(&hub, "thief").await;
    let mut session = connect(&hub, "d", true).await;
    subscribe(&hub, &session, &[Interest::Methods]).await;
    let asked = ask(&hub, 0);
    let open = next_call(&mut session).await;
    drop(session);
    let thief = connect(&hub, "thief", true).await;
    hub.answer(thief.state(), open, 666, b"");
    let session = connect(&hub, "d", true).await;
    hub.answer(session.state(), open, 200, b"");
    assert_eq!(asked.await.unwrap().unwrap().status, 200);
}

#[tokio::test(start_paused = true)]
async fn many_in_flight_and_no_leak_when_callers_leave() {
    let hub = hub().await;
    create(&hub, "d").await;
    let mut session = connect(&hub, "d", true).await;
    subscribe(&hub, &session, &[Interest::Methods]).await;
    let callers: Vec<_> = (0..1024).map(|_| ask(&hub, 0)).collect();
    let mut open = Vec::new();
    for _ in 0..1024 {
        open.push(next_call(&mut session).await);
    }
    assert_eq!(hub.invoke(&id("d"), call(0)).await, Err(Error::TooManyCalls(1024)));
    for caller in &callers {
        caller.abort();
    }
    for caller in callers {
        assert!(caller.await.unwrap_err().is_cancelled());
    }
    for id in open {
        hub.answer(session.state(), id, 200, b"");
    }
    assert_eq!(hub.stats().method_late_answers.count(), 1024);
    let asked = ask(&hub, 0);
    let open = next_call(&mut session).await;
    hub.answer(session.state(), open, 200, b"");
    asked.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn deleting_the_device_ends_its_connection_and_leaves_the_caller_its_timeout() {
    let hub = hub().await;
    create(&hub, "d").await;
    let mut session = connect(&hub, "d", true).await;
    subscribe(&hub, &session, &[Interest::Methods]).await;
    let asked = ask(&hub, 0);
    next_call(&mut session).await;
    hub.apply(operation("d", Action::Delete(IfMatch::Any))).await.unwrap();
    assert!(news(&mut session).await.is_err());
    drop(session);
    assert!(matches!(asked.await.unwrap(), Err(Error::MethodTimeout { .. })));
    assert_eq!(hub.invoke(&id("d"), call(0)).await, Err(Error::DeviceNotFound("d".into())));
}
