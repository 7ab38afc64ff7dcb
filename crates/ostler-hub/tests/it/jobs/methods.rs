//! Method jobs.

use super::fleet::*;
use crate::support::*;
use ostler_core::job::{Failure, Gate, JobKind, JobStatus, Offline, Rollout, Waves, Work};
use ostler_core::record::Interest;
use ostler_hub::registry::Action;
use ostler_hub::session::News;
use ostler_hub::IfMatch;
use std::time::Duration;

#[tokio::test]
async fn every_connected_device_is_called_once() {
    let world = World::new().await;
    world.devices(40).await;
    let calls = Calls::default();
    for i in 0..40 {
        world.answering(&name(i), &calls).await;
    }
    let view = world.run(method_job("j", Rollout::default())).await;
    world.check_counts(&view).await;
    assert_eq!((view.status, view.counts.unwrap().succeeded), (JobStatus::Completed, 40));
    assert!(calls.lock().len() == 40 && calls.lock().values().all(|count| *count == 1));
    let row = &world.rows(&job_id("j")).await[7];
    let answer = row.outcome.as_ref().unwrap();
    assert_eq!((answer.status, &answer.payload[..], row.attempts), (200, &b"{\"ok\":1}"[..], 1));
}

#[tokio::test]
async fn offline_devices_are_waited_for_until_their_time_is_over() {
    let world = World::new().await;
    world.devices(4).await;
    let calls = Calls::default();
    world.answering("d00", &calls).await;
    world.hub.create_job(method_job("j", Rollout::default())).await.unwrap();
    world.until(&job_id("j"), |view| view.counts.is_some_and(|counts| counts.succeeded == 1)).await;
    // Connected is not enough; subscribed is.
    let mut late = connect(&world.hub, "d01", true).await;
    subscribe(&world.hub, &late, &[Interest::Methods]).await;
    let Ok(News::Call { id: call, .. }) = news(&mut late).await else { panic!("no call") };
    world.hub.answer(late.state(), call, 500, b"");
    world.until(&job_id("j"), |view| view.counts.is_some_and(|counts| counts.succeeded == 2)).await;
    world.hub.apply(operation("d02", Action::Delete(IfMatch::Any))).await.unwrap();
    world.clock.jump(101);
    let view = world.ended(&job_id("j")).await;
    world.check_counts(&view).await;
    let outcomes = [
        "d00 completed",
        "d01 completed",
        "d02 failed DeviceNotFound",
        "d03 failed JobRunPreconditionFailed",
    ];
    assert_eq!(world.outcomes(&job_id("j")).await, outcomes);
    let rows = world.rows(&job_id("j")).await;
    assert_eq!(rows[1].outcome.as_ref().map(|answer| answer.status), Some(500));
    assert_eq!(rows[3].error, Some(Failure::not_started(JobKind::Method, 100)));
    assert_eq!(calls.lock().get("d00"), Some(&1));
}

#[tokio::test]
async fn offline_devices_fail_at_once_when_the_job_says_so_and_can_be_tried_again() {
    let world = World::new().await;
    world.devices(3).await;
    let calls = Calls::default();
    world.answering("d01", &calls).await;
    let rollout = Rollout { offline: Offline::Fail, ..Rollout::default() };
    let view = world.run(method_job("j", rollout)).await;
    let outcomes = ["d00 failed DeviceNotOnline", "d01 completed", "d02 failed DeviceNotOnline"];
    assert_eq!(world.outcomes(&job_id("j")).await, outcomes);
    assert_eq!(view.failures_by_cause, [("DeviceNotOnline".to_owned(), 2)].into());
    world.answering("d00", &calls).await;
    world.answering("d02", &calls).await;
    let retry = world.hub.retry_job(&job_id("j"), job_id("k")).await.unwrap();
    assert_eq!(retry.parent, Some(job_id("j")));
    let view = world.ended(&job_id("k")).await;
    world.check_counts(&view).await;
    assert_eq!(world.outcomes(&job_id("k")).await, ["d00 completed", "d02 completed"]);
    assert!(calls.lock().values().all(|count| *count == 1));
}

#[tokio::test]
async fn a_silent_device_fails_and_is_tried_as_often_as_allowed() {
    let world = World::new().await;
    world.devices(1).await;
    let mut session = connect(&world.hub, "d00", true).await;
    subscribe(&world.hub, &session, &[Interest::Methods]).await;
    let rollout = Rollout { attempts: 3, ..Rollout::default() };
    let mut spec = method_job("j", rollout);
    if let Work::Method(call) = &mut spec.work {
        // The hub answers 200 ms before the time that the caller gave.
        call.response_timeout = Duration::from_millis(220);
    }
    world.hub.create_job(spec).await.unwrap();
    for _ in 0..3 {
        assert!(matches!(news(&mut session).await, Ok(News::Call { .. })));
    }
    let view = world.ended(&job_id("j")).await;
    world.check_counts(&view).await;
    assert_eq!(world.outcomes(&job_id("j")).await, ["d00 failed GatewayTimeout"]);
    assert_eq!(world.rows(&job_id("j")).await[0].attempts, 3);
    assert!(is_quiet(&mut session).await);
}

#[tokio::test]
async fn a_gate_stops_the_job_before_the_next_wave() {
    let world = World::new().await;
    world.devices(6).await;
    let calls = Calls::default();
    world.answering("d00", &calls).await;
    let gate = Gate { min_success_percent: Some(60), ..Gate::default() };
    let rollout =
        Rollout { offline: Offline::Fail, waves: Waves::Sizes(vec![2]), gate, ..Rollout::default() };
    let view = world.run(method_job("j", rollout)).await;
    world.check_counts(&view).await;
    assert_eq!(view.status, JobStatus::Failed);
    let reason = "stopped in wave 1 of 2: 1 of the wave's 2 devices succeeded, 60 % are needed";
    assert_eq!(view.failure_reason.as_deref(), Some(reason));
    let counts = view.counts.unwrap();
    assert_eq!((counts.succeeded, counts.failed, counts.cancelled), (1, 1, 4));
}

#[tokio::test]
async fn failures_in_a_row_stop_the_job() {
    let world = World::new().await;
    world.devices(30).await;
    let gate = Gate { stop_after_consecutive: Some(3), ..Gate::default() };
    let rollout = Rollout { offline: Offline::Fail, concurrency: Some(1), gate, ..Rollout::default() };
    let view = world.run(method_job("j", rollout)).await;
    world.check_counts(&view).await;
    assert_eq!(view.status, JobStatus::Failed);
    assert!(view.failure_reason.unwrap().contains("one after the other"));
}

#[tokio::test]
async fn waves_follow_each_other_after_the_soak() {
    let world = World::new().await;
    world.devices(6).await;
    let calls = Calls::default();
    for i in 0..6 {
        world.answering(&name(i), &calls).await;
    }
    for (device, site) in [("d05", "a"), ("d00", "b"), ("d03", "b")] {
        let tags = ostler_core::twin::SectionPatch::Merge(object(&format!("{{\"site\":\"{site}\"}}")));
        patch(&world.hub, device, &ostler_core::twin::TwinPatch { tags: Some(tags), desired: None }).await;
    }
    let gate = Gate { soak_secs: 60, ..Gate::default() };
    let rollout = Rollout { waves: Waves::ByTag(["site".into()].into()), gate, ..Rollout::default() };
    let spec = method_job("j", rollout);
    let dry = world.hub.dry_run(&spec).await.unwrap();
    assert_eq!(dry.waves.iter().map(|wave| wave.devices).collect::<Vec<_>>(), [1, 2, 3]);
    world.hub.create_job(spec).await.unwrap();
    let called = || calls.lock().keys().cloned().collect::<Vec<_>>().join(" ");
    for (wave, devices) in [(2, "d05"), (3, "d00 d03 d05")] {
        let soaking = |number| {
            move |view: &ostler_core::job::JobView| {
                view.wave.as_ref().is_some_and(|wave| wave.number == number && wave.soak_until.is_some())
            }
        };
        world.until(&job_id("j"), soaking(wave)).await;
        assert_eq!(called(), devices);
        world.clock.jump(61);
    }
    let view = world.ended(&job_id("j")).await;
    world.check_counts(&view).await;
    assert_eq!(calls.lock().len(), 6);
}

#[tokio::test]
async fn hundreds_of_jobs_run_at_once_and_one_that_is_stuck_holds_up_nobody() {
    let world = World::new().await;
    world.devices(3).await;
    let calls = Calls::default();
    world.answering("d00", &calls).await;
    let mut silent = connect(&world.hub, "d01", true).await;
    subscribe(&world.hub, &silent, &[Interest::Methods]).await;
    for i in 0..300 {
        world.hub.create_job(method_job(&format!("j{i:03}"), Rollout::default())).await.unwrap();
    }
    for _ in 0..300 {
        assert!(matches!(news(&mut silent).await, Ok(News::Call { .. })));
    }
    for i in 0..300 {
        let done = |view: &ostler_core::job::JobView| view.counts.is_some_and(|counts| counts.succeeded == 1);
        world.until(&job_id(&format!("j{i:03}")), done).await;
    }
    // A back end's own call goes through meanwhile.
    let call = ostler_core::method::MethodCall::new("x", b"1", None, None).unwrap();
    assert_eq!(world.hub.invoke(&id("d00"), call).await.unwrap().status, 200);
    assert_eq!(calls.lock().get("d00"), Some(&301));
    let twins = world.run(twin_job("twins", "*")).await;
    assert_eq!(twins.counts.unwrap().succeeded, 3);
    // The offline device's time is over in all of them; the silent one is let finish.
    world.clock.jump(101);
    for i in 0..300 {
        let expired = |view: &ostler_core::job::JobView| view.counts.is_some_and(|counts| counts.failed == 1);
        let view = world.until(&job_id(&format!("j{i:03}")), expired).await;
        assert_eq!(view.counts.unwrap().running, 1);
    }
}

#[tokio::test]
async fn a_job_keeps_its_concurrency() {
    let world = World::new().await;
    world.devices(8).await;
    let mut sessions = Vec::new();
    for i in 0..8 {
        let session = connect(&world.hub, &name(i), true).await;
        subscribe(&world.hub, &session, &[Interest::Methods]).await;
        sessions.push(session);
    }
    let rollout = Rollout { concurrency: Some(3), ..Rollout::default() };
    world.hub.create_job(method_job("j", rollout)).await.unwrap();
    let running = |count| {
        move |view: &ostler_core::job::JobView| view.counts.is_some_and(|counts| counts.running == count)
    };
    world.until(&job_id("j"), running(3)).await;
    for (i, session) in sessions.iter_mut().enumerate() {
        let Ok(News::Call { id: call, .. }) = news(session).await else { panic!("no call") };
        let counts = world.hub.job(&job_id("j")).await.unwrap().counts.unwrap();
        assert!(counts.running <= 3, "{i}: {counts:?}");
        world.hub.answer(session.state(), call, 200, b"");
    }
    let view = world.ended(&job_id("j")).await;
    world.check_counts(&view).await;
}

#[tokio::test]
async fn a_clock_that_goes_back_after_the_time_was_over_leaves_no_device_undecided() {
    let world = World::new().await;
    world.devices(2).await;
    let mut slow = connect(&world.hub, "d00", true).await;
    subscribe(&world.hub, &slow, &[Interest::Methods]).await;
    let rollout = Rollout { attempts: 3, ..Rollout::default() };
    world.hub.create_job(method_job("j", rollout)).await.unwrap();
    let Ok(News::Call { id: call, .. }) = news(&mut slow).await else { panic!("no call") };
    world.clock.jump(101);
    world.until(&job_id("j"), |view| view.counts.is_some_and(|counts| counts.failed == 1)).await;
    world.clock.jump(-50);
    world.hub.answer(slow.state(), call, 200, b"{");
    let view = world.ended(&job_id("j")).await;
    world.check_counts(&view).await;
    let outcomes = ["d00 failed BadDeviceResponse", "d01 failed JobRunPreconditionFailed"];
    assert_eq!(world.outcomes(&job_id("j")).await, outcomes);
}

#[tokio::test]
async fn a_job_that_only_waits_for_answers_does_nothing_meanwhile() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    for cancelled in [false, true] {
        let (clock, looks) = (TestClock::new(), std::sync::Arc::new(AtomicUsize::new(0)));
        let (time, counter) = (clock.clone(), looks.clone());
        let count = move || {
            counter.fetch_add(1, Ordering::SeqCst);
            time.now()
        };
        let clock_of_hub = ostler_hub::Clock::new(count, Duration::from_secs(2));
        let options = ostler_hub::Options { clock: clock_of_hub, ..ostler_hub::Options::default() };
        let world = World { hub: hub_with(options).await, clock };
        world.devices(2).await;
        let mut slow = connect(&world.hub, "d00", true).await;
        subscribe(&world.hub, &slow, &[Interest::Methods]).await;
        world.hub.create_job(method_job("j", Rollout::default())).await.unwrap();
        let Ok(News::Call { id: call, .. }) = news(&mut slow).await else { panic!("no call") };
        if cancelled {
            // By the real clock: a paused one runs through the call's own timeout while the store writes.
            let view = world.hub.cancel_job(&job_id("j")).await.unwrap();
            assert_eq!(view.status, JobStatus::Running);
            tokio::time::pause();
        } else {
            tokio::time::pause();
            world.clock.jump(101);
            world.until(&job_id("j"), |view| view.counts.is_some_and(|counts| counts.failed == 1)).await;
        }
        let before = looks.load(Ordering::SeqCst);
        // Of the paused clock: they pass at once, and every timer that is due rings.
        tokio::time::sleep(Duration::from_secs(20)).await;
        let looked = looks.load(Ordering::SeqCst) - before;
        assert!(looked < 100, "{looked} looks at the clock in 20 seconds");
        world.hub.answer(slow.state(), call, 200, b"");
        let view = world.ended(&job_id("j")).await;
        assert_eq!(view.counts.unwrap().succeeded, 1);
        tokio::time::resume();
    }
}
