//! Identities.

use crate::support::*;
use ostler_core::identity::{IdentitySpec, Status};
use ostler_core::twin::TwinContent;
use ostler_hub::registry::{Action, Operation};
use ostler_hub::session::EndReason;
use ostler_hub::{Error, IfMatch, Options};

#[tokio::test]
async fn create_update_delete() {
    let hub = hub().await;
    let made = create(&hub, "pump-7").await;
    let again = hub.apply(operation("pump-7", Action::Create)).await;
    assert_eq!(again, Err(Error::DeviceExists("pump-7".into())));
    let missing = hub.apply(operation("pump-8", Action::Update(IfMatch::Any))).await;
    assert_eq!(missing, Err(Error::DeviceNotFound("pump-8".into())));
    let stale = hub.apply(operation("pump-7", Action::Update(IfMatch::Etag("x".into())))).await;
    assert_eq!(stale, Err(Error::PreconditionFailed));
    let etag = IfMatch::Etag(made.record.identity.etag_text());
    let updated = hub.apply(operation("pump-7", Action::Update(etag.clone()))).await.unwrap().unwrap();
    assert_eq!(updated.record.identity.authentication, made.record.identity.authentication);
    assert_eq!(hub.apply(operation("pump-7", Action::Delete(etag))).await, Err(Error::PreconditionFailed));
    assert_eq!(hub.apply(operation("pump-7", Action::Delete(IfMatch::Any))).await, Ok(None));
    assert_eq!(hub.identity(&id("pump-7")).await, Err(Error::DeviceNotFound("pump-7".into())));
}

#[tokio::test]
async fn modules_live_and_die_with_their_device() {
    let hub = hub().await;
    let orphan = hub.apply(operation("d/m", Action::Create)).await;
    assert_eq!(orphan, Err(Error::DeviceNotFound("d".into())));
    create(&hub, "d").await;
    create(&hub, "d/m").await;
    create(&hub, "d/n").await;
    let names =
        |views: Vec<ostler_hub::View>| views.iter().map(|v| v.record.id.to_string()).collect::<Vec<_>>();
    assert_eq!(names(hub.list_modules(&id("d").device_id()).await.unwrap()), ["d/m", "d/n"]);
    let mut session = connect(&hub, "d/m", true).await;
    hub.apply(operation("d", Action::Delete(IfMatch::Any))).await.unwrap();
    assert_eq!(news(&mut session).await.unwrap_err(), EndReason::Deleted);
    assert_eq!(hub.identity(&id("d/m")).await, Err(Error::DeviceNotFound("d".into())));
    assert_eq!((hub.counts().devices, hub.counts().modules), (0, 0));
}

#[tokio::test]
async fn edge_gateways_get_their_modules() {
    let hub = hub().await;
    let mut gateway = operation("gw", Action::Create);
    gateway.identity = IdentitySpec { iot_edge: Some(true), ..IdentitySpec::default() };
    let view = hub.apply(gateway).await.unwrap().unwrap();
    assert!(view.record.identity.device_scope.unwrap().starts_with("ms-azure-iot-edge://gw-"));
    let modules = hub.list_modules(&id("gw").device_id()).await.unwrap();
    assert_eq!(modules.len(), 2);
}

#[tokio::test]
async fn bulk_entries_stand_alone() {
    let hub = hub().await;
    create(&hub, "b").await;
    let content = TwinContent { tags: Some(object(r#"{"g":1}"#)), desired: Some(object(r#"{"x":1}"#)) };
    let outcomes = hub
        .apply_all(vec![
            Operation { twin: content, ..operation("a", Action::Create) },
            operation("b", Action::Create),
            operation("c", Action::Upsert(IfMatch::Any)),
            operation("x", Action::Delete(IfMatch::Any)),
            operation("b", Action::Delete(IfMatch::Any)),
        ])
        .await;
    let errors: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().err()).collect();
    let exists = Error::DeviceExists("b".into());
    let missing = Error::DeviceNotFound("x".into());
    assert_eq!(errors, [None, Some(&exists), None, Some(&missing), None]);
    assert_eq!(desired_text(&hub.twin(&id("a")).await.unwrap()), r#"{"x":1,"$version":2}"#);
    assert_eq!(hub.counts().devices, 2);
}

#[tokio::test]
async fn disabling_and_new_keys_drop_the_connection() {
    let hub = hub().await;
    create(&hub, "d").await;
    create(&hub, "d/m").await;
    let mut module = connect(&hub, "d/m", true).await;
    let mut session = connect(&hub, "d", true).await;
    let mut roll = operation("d", Action::Update(IfMatch::Any));
    roll.identity.authentication =
        ostler_core::identity::AuthenticationSpec::Sas { primary: None, secondary: None };
    hub.apply(roll).await.unwrap();
    assert_eq!(news(&mut session).await.unwrap_err(), EndReason::CredentialChanged);
    assert!(is_quiet(&mut module).await);
    let mut disable = operation("d", Action::Update(IfMatch::Any));
    disable.identity.status = Some(Status::Disabled);
    let mut session = connect(&hub, "d", true).await;
    hub.apply(disable).await.unwrap();
    assert_eq!(news(&mut session).await.unwrap_err(), EndReason::Disabled);
    assert_eq!(news(&mut module).await.unwrap_err(), EndReason::Disabled);
    assert_eq!(hub.counts().disabled, 1);
}

#[tokio::test]
async fn limits() {
    let hub = hub_with(Options { max_identities: 60, ..Options::default() }).await;
    create(&hub, "d").await;
    for i in 0..50 {
        create(&hub, &format!("d/m{i}")).await;
    }
    assert_eq!(hub.apply(operation("d/more", Action::Create)).await, Err(Error::TooManyModules));
    for i in 0..9 {
        create(&hub, &format!("e{i}")).await;
    }
    assert_eq!(hub.apply(operation("f", Action::Create)).await, Err(Error::TooManyDevices));
}
