//! Twin jobs.

use super::fleet::*;
use crate::support::*;
use ostler_core::configuration::{ConfigurationId, ConfigurationSpec};
use ostler_core::job::{DeviceJobStatus, JobStatus, Rollout, Work};
use ostler_core::query::Dialect;
use ostler_core::record::Interest;
use ostler_hub::registry::Action;
use ostler_hub::session::News;
use ostler_hub::IfMatch;

#[tokio::test]
async fn a_patch_reaches_every_twin_that_meets_the_condition_and_its_device() {
    let world = World::new().await;
    world.devices(5).await;
    let mut session = connect(&world.hub, "d01", true).await;
    subscribe(&world.hub, &session, &[Interest::DesiredChanges]).await;
    let view = world.run(twin_job("j", "deviceId IN ['d01', 'd03', 'nobody']")).await;
    assert_eq!((view.status, view.failure_reason.clone()), (JobStatus::Completed, None));
    world.check_counts(&view).await;
    assert_eq!(world.outcomes(&view.spec.id).await, ["d01 completed", "d03 completed"]);
    let row = &world.rows(&view.spec.id).await[0];
    assert_eq!((row.start, row.end), (view.started, view.started.map(|start| start.plus_secs(100))));
    match news(&mut session).await {
        Ok(News::DesiredChanged(change)) => {
            assert_eq!((change.version, &change.patch), (2, &object("{\"floor\":3}")))
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(desired_text(&world.hub.twin(&id("d03")).await.unwrap()), r#"{"floor":3,"$version":2}"#);
    assert_eq!(desired_text(&world.hub.twin(&id("d00")).await.unwrap()), r#"{"$version":1}"#);
}

#[tokio::test]
async fn thousands_of_twins_each_change_once() {
    let world = World::new().await;
    let operations: Vec<_> = (0..5000).map(|i| operation(&format!("x{i:04}"), Action::Create)).collect();
    for outcome in world.hub.apply_all(operations).await {
        outcome.unwrap();
    }
    // Others change the same twins meanwhile.
    let others = async {
        for i in 0..300 {
            patch(&world.hub, &format!("x{i:04}"), &desired("{\"other\":1}")).await;
        }
    };
    let (view, ()) = tokio::join!(world.run(twin_job("j", "*")), others);
    world.check_counts(&view).await;
    assert_eq!(view.counts.unwrap().succeeded, 5000);
    for i in 0..5000 {
        let twin = world.hub.twin(&id(&format!("x{i:04}"))).await.unwrap().record.twin;
        assert_eq!(twin.desired.version, if i < 300 { 3 } else { 2 });
    }
}

#[tokio::test]
async fn what_cannot_be_done_on_a_device_is_said_of_it() {
    let world = World::new().await;
    world.devices(3).await;
    let big = format!("{{\"a\":\"{}\",\"b\":\"{}\"}}", "x".repeat(4000), "y".repeat(3000));
    let full = ostler_core::twin::TwinPatch {
        tags: Some(ostler_core::twin::SectionPatch::Merge(object(&big))),
        desired: None,
    };
    patch(&world.hub, "d01", &full).await;
    let view = world.run(tags_job("j", &format!("{{\"c\":\"{}\"}}", "z".repeat(3000)))).await;
    world.check_counts(&view).await;
    let outcomes = ["d00 completed", "d01 failed ArgumentInvalid", "d02 completed"];
    assert_eq!(world.outcomes(&view.spec.id).await, outcomes);
    assert_eq!(view.status, JobStatus::Completed);
}

#[tokio::test]
async fn a_deleted_device_is_reported() {
    let world = World::new().await;
    world.devices(3).await;
    // One device a second: the clock of the pace is the machine's, so the last ones are held back.
    let rollout = Rollout { rate: Some(1), ..Rollout::default() };
    let slow = spec("j", Work::Twin(desired("{\"a\":1}")), "*", rollout);
    world.hub.create_job(slow).await.unwrap();
    world.until(&job_id("j"), |view| view.counts.is_some_and(|counts| counts.succeeded == 1)).await;
    world.hub.apply(operation("d02", Action::Delete(IfMatch::Any))).await.unwrap();
    let view = world.ended(&job_id("j")).await;
    world.check_counts(&view).await;
    assert_eq!(
        world.outcomes(&job_id("j")).await,
        ["d00 completed", "d01 completed", "d02 failed DeviceNotFound"]
    );
    assert_eq!(world.rows(&job_id("j")).await[2].status, DeviceJobStatus::Failed);
}

#[tokio::test]
async fn a_job_makes_twins_meet_a_configuration() {
    let world = World::new().await;
    world.devices(3).await;
    let spec = ConfigurationSpec {
        content: Some(object(r#"{"deviceContent":{"properties.desired.lift":true}}"#)),
        target_condition: Some("properties.desired.floor = 3".into()),
        ..ConfigurationSpec::default()
    };
    let cfg = ConfigurationId::new("lifts").unwrap();
    world.hub.create_configuration(&cfg, spec, Dialect::Extended).await.unwrap();
    world.run(twin_job("j", "deviceId != 'd00'")).await;
    world.hub.configurations_settled().await;
    for (name, lift) in [("d00", false), ("d01", true), ("d02", true)] {
        let twin = world.hub.twin(&id(name)).await.unwrap().record.twin;
        assert_eq!(twin.desired.get(&["lift"]).is_some(), lift, "{name}");
    }
}
