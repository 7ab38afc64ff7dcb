//! Twins and their notifications.

use crate::support::*;
use ostler_core::record::Interest;
use ostler_core::twin::TwinContent;
use ostler_hub::session::News;
use ostler_hub::{Error, IfMatch};

#[tokio::test]
async fn a_device_reports_and_a_back_end_reads() {
    let hub = hub().await;
    create(&hub, "d").await;
    let session = connect(&hub, "d", true).await;
    assert_eq!(hub.report(session.state(), br#"{"fw":"1.0","n":1.50}"#, None).await, Ok(2));
    let refused = hub.report(session.state(), br#"{"a b":1}"#, None).await;
    assert!(matches!(refused, Err(Error::Twin(_))), "{refused:?}");
    assert!(matches!(hub.report(session.state(), b"[1]", None).await, Err(Error::InvalidJson(_))));
    assert_eq!(hub.report(session.state(), b"{}", Some(7)).await, Err(Error::PreconditionFailed));
    let text = String::from_utf8(hub.device_twin(session.state()).await.unwrap()).unwrap();
    assert_eq!(text, r#"{"desired":{"$version":1},"reported":{"fw":"1.0","n":1.50,"$version":2}}"#);
    let view = hub.twin(&id("d")).await.unwrap();
    assert!(view.connected);
    assert_eq!((view.record.twin.version, view.record.twin.etag), (3, 1));
}

#[tokio::test]
async fn desired_changes_reach_subscribers_in_order() {
    let hub = hub().await;
    create(&hub, "d").await;
    let mut session = connect(&hub, "d", true).await;
    patch(&hub, "d", &desired(r#"{"unheard":1}"#)).await;
    assert!(is_quiet(&mut session).await);
    subscribe(&hub, &session, &[Interest::DesiredChanges]).await;
    let change = desired(r#"{"a":1}"#);
    let calls = (0..20).map(|_| patch(&hub, "d", &change));
    futures_util::future::join_all(calls).await;
    for version in 3..23 {
        match news(&mut session).await {
            Ok(News::DesiredChanged(change)) => assert_eq!(change.version, version),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn etags_guard_changes() {
    let hub = hub().await;
    create(&hub, "d").await;
    let stale = IfMatch::Etag("AAAAAAAAAAk=".into());
    let change = desired(r#"{"a":1}"#);
    assert_eq!(hub.patch_twin(&id("d"), &stale, &change).await, Err(Error::PreconditionFailed));
    let right = IfMatch::Etag("AAAAAAAAAAE=".into());
    hub.patch_twin(&id("d"), &right, &change).await.unwrap();
    let content = TwinContent { tags: Some(object(r#"{"t":1}"#)), desired: None };
    assert_eq!(hub.replace_twin(&id("d"), &right, &content).await, Err(Error::PreconditionFailed));
    let replaced = hub.replace_twin(&id("d"), &IfMatch::Any, &content).await.unwrap();
    assert_eq!(desired_text(&replaced), r#"{"$version":3}"#);
}

#[tokio::test]
async fn concurrent_changes_all_count() {
    let hub = hub().await;
    create(&hub, "d").await;
    let session = connect(&hub, "d", true).await;
    let reports = (0..50).map(|i| {
        let (hub, state) = (hub.clone(), session.state().clone());
        tokio::spawn(async move { hub.report(&state, format!(r#"{{"r{i}":{i}}}"#).as_bytes(), None).await })
    });
    let reports: Vec<_> = reports.collect();
    for i in 0..50 {
        patch(&hub, "d", &desired(&format!(r#"{{"d{i}":{i}}}"#))).await;
    }
    for report in reports {
        report.await.unwrap().unwrap();
    }
    let twin = hub.twin(&id("d")).await.unwrap().record.twin;
    assert_eq!((twin.reported.members.len(), twin.desired.members.len()), (50, 50));
    assert_eq!((twin.version, twin.reported.version, twin.desired.version), (102, 51, 51));
}
