//! Sign-in, sessions, policies, diagnosis.

use crate::support::*;
use ostler_core::auth::{AuthFailure, Rights};
use ostler_core::record::Interest;
use ostler_core::sas::sign;
use ostler_hub::access::Peer;
use ostler_hub::policies::WhichKey;
use ostler_hub::session::EndReason;
use ostler_hub::{Error, Hub, Options};
use ostler_store::Embedded;
use std::sync::Arc;

#[tokio::test]
async fn the_newest_connection_wins() {
    let hub = hub().await;
    create(&hub, "d").await;
    let mut first = connect(&hub, "d", true).await;
    let mut second = connect(&hub, "d", true).await;
    assert_eq!(news(&mut first).await.unwrap_err(), EndReason::TakenOver);
    first.end(EndReason::TakenOver);
    assert!(is_quiet(&mut second).await);
    assert!(hub.twin(&id("d")).await.unwrap().connected);
    assert_eq!(hub.connected_count(), 1);
    drop(second);
    assert!(!hub.twin(&id("d")).await.unwrap().connected);
}

#[tokio::test]
async fn persistent_sessions_outlive_connections_and_the_hub() {
    let store = Arc::new(Embedded::in_memory());
    let hub = Hub::open(store.clone(), Options::default()).await.unwrap();
    create(&hub, "d").await;
    let session = connect(&hub, "d", false).await;
    assert!(!session.session_present());
    subscribe(&hub, &session, &[Interest::Methods, Interest::TwinAnswers]).await;
    drop(session);
    drop(hub);
    let hub = Hub::open(store, Options::default()).await.unwrap();
    let session = connect(&hub, "d", false).await;
    assert!(session.session_present());
    assert!(session.state().delivery(Interest::Methods).is_some());
    assert!(session.state().delivery(Interest::DesiredChanges).is_none());
    drop(session);
    let session = connect(&hub, "d", true).await;
    assert!(!session.session_present() && session.state().delivery(Interest::Methods).is_none());
    drop(session);
    assert!(!connect(&hub, "d", false).await.session_present());
}

#[tokio::test]
async fn refusals_are_explained_to_the_operator() {
    let hub = hub().await;
    create(&hub, "d").await;
    let advice = hub.diagnose(&id("d")).await.unwrap();
    assert_eq!(advice.summary, "It has never connected.");
    let refused = try_connect(&hub, "d", "SharedAccessSignature sr=x&sig=y&se=1", true).await;
    assert!(matches!(refused.unwrap_err(), Error::Unauthorized(AuthFailure::Malformed(_))));
    let diagnosis = hub.diagnose(&id("d")).await.unwrap();
    assert!(
        diagnosis.summary.contains("refused") && diagnosis.summary.contains("malformed"),
        "{diagnosis:?}"
    );
    let refused = try_connect(&hub, "ghost", "x", true).await.unwrap_err();
    assert_eq!(refused, Error::Unauthorized(AuthFailure::Unknown));
    assert!(!hub.diagnose(&id("ghost")).await.unwrap().registered);
    let session = connect(&hub, "d", true).await;
    assert!(hub.diagnose(&id("d")).await.unwrap().summary.starts_with("It is connected since"));
    session.end(EndReason::KeepAlive);
    assert!(hub.diagnose(&id("d")).await.unwrap().summary.contains("keep-alive-timeout"));
}

#[tokio::test]
async fn a_noisy_address_is_held_back_but_the_right_key_still_works() {
    let hub = hub_with(Options { sign_in_failures: (3, 1), ..Options::default() }).await;
    create(&hub, "d").await;
    let peer = Peer { addr: Some("192.0.2.1".parse().unwrap()), transport: "test" };
    let refusals: Vec<_> =
        (0..5).map(|_| hub.refuse_sign_in("d", peer, AuthFailure::WrongKey) == Error::RateLimited).collect();
    assert_eq!(refusals, [false, false, false, true, true]);
    connect(&hub, "d", true).await;
    assert_eq!(hub.stats().sign_in_failures.count(), 5);
}

#[tokio::test]
async fn policies() {
    let hub = hub().await;
    let token = |policy: &ostler_core::auth::Policy| {
        sign("localhost", &policy.primary, hub.now().plus_secs(60), Some(&policy.name))
    };
    let owner = hub.policy("iothubowner").unwrap();
    let old = token(&owner);
    let allowed = |token: &str| hub.authorize(token, "twins/d", Rights::SERVICE_CONNECT, PEER).is_ok();
    assert!(allowed(&old));
    let revision = hub.policies_revision();
    hub.rotate_policy("iothubowner", WhichKey::Primary).await.unwrap();
    assert!(!allowed(&old) && hub.policies_revision() != revision);
    let made = hub.create_policy("ci", Rights::SERVICE_CONNECT, None, None).await.unwrap();
    assert!(allowed(&token(&made)));
    let taken = hub.create_policy("ci", Rights::ALL, None, None).await;
    assert_eq!(taken, Err(Error::NameTaken("ci".into())));
    hub.delete_policy("ci").await.unwrap();
    assert!(!allowed(&token(&made)));
    assert_eq!(hub.delete_policy("ci").await, Err(Error::NameUnknown("ci".into())));
    assert!(matches!(hub.delete_policy("iothubowner").await, Err(Error::InvalidArgument(_))));
    assert!(matches!(
        hub.create_policy("a b", Rights::ALL, None, None).await,
        Err(Error::InvalidArgument(_))
    ));
}
