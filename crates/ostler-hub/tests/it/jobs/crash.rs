//! A hub that dies at every single commit of a job, and what the next one makes of it.
//!
//! Each device is called at most once, each twin is changed exactly once, each target has exactly one
//! final outcome, and the counts are those of the outcomes.

use super::fleet::*;
use super::mortal::{Death, Mortal};
use crate::support::*;
use ostler_core::job::{
    DeviceJobStatus, FailureCode, Gate, JobSpec, JobStatus, JobView, Rollout, Waves, Work,
};
use ostler_hub::registry::Action;
use ostler_hub::Error;
use ostler_store::{Embedded, Store};
use std::sync::Arc;

const DEVICES: usize = 6;

/// Small steps, so that there are many commits to die at.
fn rollout() -> Rollout {
    Rollout { concurrency: Some(2), waves: Waves::Sizes(vec![3]), ..Rollout::default() }
}

struct Life {
    world: World,
    calls: Calls,
    view: JobView,
    /// Whether the hub lived on without dying.
    unharmed: bool,
}

/// Runs a job on a hub that dies at the commit `at` after the devices are there, and again on a new one.
async fn life(spec: JobSpec, at: usize, death: Death) -> Life {
    let (disk, clock, calls) = (Arc::new(Embedded::in_memory()), TestClock::new(), Calls::default());
    let mortal = Arc::new(Mortal::new(disk.clone(), death));
    let world = World::over(mortal.clone(), clock.clone()).await;
    world.devices(DEVICES).await;
    let mut tasks = Vec::new();
    for i in 0..DEVICES {
        tasks.push(world.answering(&name(i), &calls).await);
    }
    mortal.die_at(at);
    let id = spec.id.clone();
    let created = world.hub.create_job(spec.clone()).await.is_ok();
    while created
        && !mortal.is_dead()
        && world.hub.job(&id).await.is_ok_and(|view| !view.status.is_terminal())
    {
        tokio::task::yield_now().await;
    }
    let unharmed = !mortal.is_dead();
    for task in tasks {
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }
    drop(world);
    mortal.buried().await;
    let world = World::over(disk, clock).await;
    for i in 0..DEVICES {
        world.answering(&name(i), &calls).await;
    }
    // Whoever got no answer asks again.
    match world.hub.create_job(spec).await {
        Ok(_) => assert!(!created),
        Err(error) => assert_eq!(error, Error::JobExists(id.to_string())),
    }
    let view = world.ended(&id).await;
    world.check_counts(&view).await;
    Life { world, calls, view, unharmed }
}

#[tokio::test]
async fn no_device_is_called_twice() {
    for death in [Death::Before, Death::After] {
        for at in 0.. {
            let life = life(method_job("j", rollout()), at, death).await;
            let rows = life.world.rows(&job_id("j")).await;
            assert_eq!((life.view.status, rows.len()), (JobStatus::Completed, DEVICES), "{at}");
            for row in rows {
                let called = life.calls.lock().get(row.device.as_str()).copied().unwrap_or(0);
                match (row.status, &row.error) {
                    (DeviceJobStatus::Completed, None) => assert_eq!(called, 1, "{at} {row:?}"),
                    (DeviceJobStatus::Failed, Some(failure)) => {
                        assert!(failure.code == FailureCode::OutcomeUnknown && called <= 1, "{at} {row:?}");
                    }
                    _ => panic!("{at} {row:?}"),
                }
            }
            if life.unharmed {
                assert!(at > 8, "the hub never died");
                break;
            }
        }
    }
}

#[tokio::test]
async fn no_twin_is_changed_twice() {
    for death in [Death::Before, Death::After] {
        for at in 0.. {
            let spec = spec("j", Work::Twin(desired("{\"floor\":3}")), "*", rollout());
            let life = life(spec, at, death).await;
            assert_eq!(life.view.counts.unwrap().succeeded, DEVICES as u64, "{at}");
            for i in 0..DEVICES {
                let twin = life.world.hub.twin(&id(&name(i))).await.unwrap().record.twin;
                assert_eq!(twin.desired.version, 2, "{at} {}", name(i));
            }
            if life.unharmed {
                assert!(at > 6, "the hub never died");
                break;
            }
        }
    }
}

#[tokio::test]
async fn an_expansion_that_was_cut_off_is_made_anew() {
    // More than are written in one commit.
    const MANY: usize = 2100;
    for at in 1..=3 {
        let (disk, clock) = (Arc::new(Embedded::in_memory()), TestClock::new());
        let mortal = Arc::new(Mortal::new(disk.clone(), Death::After));
        let world = World::over(mortal.clone(), clock.clone()).await;
        let create = |i| operation(&format!("x{i:04}"), Action::Create);
        let created = world.hub.apply_all((0..MANY).map(create).collect()).await;
        assert!(created.iter().all(Result::is_ok));
        mortal.die_at(at);
        world.hub.create_job(tags_job("j", "{\"a\":1}")).await.unwrap();
        while !mortal.is_dead() {
            tokio::task::yield_now().await;
        }
        drop(world);
        mortal.buried().await;
        let world = World::over(disk as Arc<dyn Store>, clock).await;
        let view = world.ended(&job_id("j")).await;
        world.check_counts(&view).await;
        assert_eq!(view.counts.unwrap().succeeded, MANY as u64, "{at}");
    }
}

#[tokio::test]
async fn a_soak_and_a_gate_are_remembered() {
    for at in 0.. {
        let gate = Gate { soak_secs: 60, ..Gate::default() };
        let rollout = Rollout { gate, ..rollout() };
        let (disk, clock, calls) = (Arc::new(Embedded::in_memory()), TestClock::new(), Calls::default());
        let mortal = Arc::new(Mortal::new(disk.clone(), Death::After));
        let world = World::over(mortal.clone(), clock.clone()).await;
        world.devices(DEVICES).await;
        let mut tasks = Vec::new();
        for i in 0..DEVICES {
            tasks.push(world.answering(&name(i), &calls).await);
        }
        mortal.die_at(at);
        let created = world.hub.create_job(method_job("j", rollout.clone())).await.is_ok();
        let is_soaking = |view: &JobView| view.wave.as_ref().is_some_and(|wave| wave.soak_until.is_some());
        while created
            && !mortal.is_dead()
            && world.hub.job(&job_id("j")).await.is_ok_and(|view| !is_soaking(&view))
        {
            tokio::task::yield_now().await;
        }
        let unharmed = !mortal.is_dead();
        for task in tasks {
            task.abort();
            drop(task.await);
        }
        drop(world);
        mortal.buried().await;
        let world = World::over(disk as Arc<dyn Store>, clock.clone()).await;
        for i in 0..DEVICES {
            world.answering(&name(i), &calls).await;
        }
        let _ = world.hub.create_job(method_job("j", rollout)).await;
        let view = world.until(&job_id("j"), is_soaking).await;
        assert_eq!(view.wave.unwrap().soak_until, Some(clock.now().plus_secs(60)));
        assert!(calls.lock().len() <= 3, "{at}: {calls:?}");
        clock.jump(60);
        let view = world.ended(&job_id("j")).await;
        world.check_counts(&view).await;
        assert!(calls.lock().values().all(|count| *count == 1), "{at}: {calls:?}");
        if unharmed {
            break;
        }
    }
}

#[tokio::test]
async fn a_cancellation_is_remembered() {
    for at in 0..12 {
        let (disk, clock, calls) = (Arc::new(Embedded::in_memory()), TestClock::new(), Calls::default());
        let mortal = Arc::new(Mortal::new(disk.clone(), Death::After));
        let world = World::over(mortal.clone(), clock.clone()).await;
        world.devices(DEVICES).await;
        let task = world.answering(&name(0), &calls).await;
        world.hub.create_job(method_job("j", Rollout::default())).await.unwrap();
        world.until(&job_id("j"), |view| view.counts.is_some_and(|counts| counts.succeeded == 1)).await;
        mortal.die_at(at);
        let cancelled = world.hub.cancel_job(&job_id("j")).await;
        task.abort();
        drop(task.await);
        drop(world);
        mortal.buried().await;
        let world = World::over(disk as Arc<dyn Store>, clock).await;
        let view = world.until(&job_id("j"), |view| view.counts.is_some()).await;
        if cancelled.is_ok() || view.status.is_terminal() {
            let view = world.ended(&job_id("j")).await;
            world.check_counts(&view).await;
            assert_eq!((view.status, view.counts.unwrap().cancelled), (JobStatus::Cancelled, 5), "{at}");
        }
        if !mortal.is_dead() {
            break;
        }
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_read_fails_its_device_and_holds_up_no_job() {
    let (disk, clock) = (Arc::new(Embedded::in_memory()), TestClock::new());
    let mortal = Arc::new(Mortal::new(disk, Death::After));
    let world = World::over(mortal.clone(), clock).await;
    world.devices(3).await;
    mortal.damage(id("d01"));
    let by_tag = Rollout { waves: Waves::ByTag(["site".into()].into()), ..Rollout::default() };
    for (name, rollout) in [("j", Rollout::default()), ("k", by_tag)] {
        let view = world.run(spec(name, Work::Twin(desired("{\"floor\":3}")), "*", rollout)).await;
        world.check_counts(&view).await;
        let outcomes = ["d00 completed", "d01 failed ServerError", "d02 completed"];
        assert_eq!(world.outcomes(&job_id(name)).await, outcomes);
    }
    // Not connected, and nobody can say more of it: it is waited for as the others are.
    world.hub.create_job(method_job("m", Rollout::default())).await.unwrap();
    world.until(&job_id("m"), |view| view.counts.is_some()).await;
    world.clock.jump(101);
    let view = world.ended(&job_id("m")).await;
    assert_eq!(view.counts.unwrap().failed, 3);
}

#[tokio::test]
async fn a_cancellation_after_an_expansion_that_was_cut_off_leaves_no_device_behind() {
    let (disk, clock) = (Arc::new(Embedded::in_memory()), TestClock::new());
    let mortal = Arc::new(Mortal::new(disk.clone(), Death::After));
    let world = World::over(mortal.clone(), clock.clone()).await;
    let create = |i| operation(&format!("x{i:04}"), Action::Create);
    assert!(world.hub.apply_all((0..2100).map(create).collect()).await.iter().all(Result::is_ok));
    let start = Some(clock.now().plus_secs(10));
    world.hub.create_job(JobSpec { start, ..tags_job("j", "{\"a\":1}") }).await.unwrap();
    mortal.die_at(0);
    clock.jump(11);
    while !mortal.is_dead() {
        look_again().await;
    }
    drop(world);
    mortal.buried().await;
    clock.jump(-11);
    let world = World::over(disk as Arc<dyn Store>, clock).await;
    assert!(!world.rows(&job_id("j")).await.is_empty());
    let view = world.hub.cancel_job(&job_id("j")).await.unwrap();
    assert_eq!(view.status, JobStatus::Cancelled);
    assert!(world.rows(&job_id("j")).await.is_empty());
}
