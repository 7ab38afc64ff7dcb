//! Creating, listing, holding and ending jobs.

use super::fleet::*;
use crate::support::*;
use ostler_core::job::{JobId, JobKind, JobStatus, Refused, Rollout};
use ostler_core::limits::JOBS_ACTIVE;
use ostler_hub::jobs::JobFilter;
use ostler_hub::{Error, Hub, Options};
use ostler_store::{Embedded, Shelf};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn a_condition_that_cannot_be_read_fails_the_job() {
    let world = World::new().await;
    world.devices(1).await;
    for (i, condition) in ["SELECT * FROM devices", "tags.a =", &"x".repeat(8193)].iter().enumerate() {
        let view = world.run(twin_job(&format!("j{i}"), condition)).await;
        assert_eq!(view.status, JobStatus::Failed);
        let reason = view.failure_reason.unwrap();
        assert!(reason.contains("Line 1:") || reason.contains("8193 characters"), "{reason}");
    }
    let view = world.run(twin_job("none", "deviceId = 'nobody'")).await;
    assert_eq!((view.status, view.counts.unwrap().devices), (JobStatus::Completed, 0));
}

#[tokio::test]
async fn an_id_is_used_once() {
    let world = World::new().await;
    let first = world.hub.create_job(twin_job("j", "*")).await.unwrap();
    assert_eq!(first.status, JobStatus::Queued);
    let again = |id: &str| world.hub.create_job(twin_job(id, "*"));
    assert_eq!(again("j").await, Err(Error::JobExists("j".into())));
    world.ended(&job_id("j")).await;
    assert_eq!(again("j").await, Err(Error::JobExists("j".into())));
    // A caller that left has its job all the same, once.
    drop(futures_util::future::select(Box::pin(again("k")), std::future::ready(())).await);
    assert_eq!(again("k").await, Err(Error::JobExists("k".into())));
    while world.hub.job(&job_id("k")).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.ended(&job_id("k")).await.status, JobStatus::Completed);
    assert_eq!(world.hub.job(&job_id("x")).await, Err(Error::JobNotFound("x".into())));
}

#[tokio::test]
async fn a_job_starts_at_its_time_whatever_the_clock_does() {
    let world = World::new().await;
    world.devices(1).await;
    let mut spec = twin_job("j", "*");
    spec.start = Some(world.clock.now().plus_secs(3600));
    world.hub.create_job(spec).await.unwrap();
    let status = || async { world.hub.job(&job_id("j")).await.unwrap().status };
    assert_eq!(status().await, JobStatus::Scheduled);
    world.clock.jump(-86_400);
    assert_eq!(status().await, JobStatus::Scheduled);
    world.clock.jump(86_400 + 3600);
    world.ended(&job_id("j")).await;
    world.clock.jump(-86_400);
    let mut next = twin_job("k", "*");
    next.start = Some(world.clock.now().plus_secs(-500));
    world.run(next).await;
    world.clock.jump(86_400);
    assert_eq!(desired_text(&world.hub.twin(&id("d00")).await.unwrap()), r#"{"floor":3,"$version":3}"#);
}

#[tokio::test]
async fn a_job_that_was_to_start_at_once_does_so_though_the_clock_went_back() {
    let (store, clock) = (Arc::new(Embedded::in_memory()), TestClock::new());
    let world = World::over(store.clone(), clock.clone()).await;
    world.hub.drain_jobs().await;
    world.hub.create_job(twin_job("j", "*")).await.unwrap();
    drop(world);
    clock.jump(-86_400);
    let world = World::over(store, clock).await;
    assert_eq!(world.ended(&job_id("j")).await.status, JobStatus::Completed);
}

#[tokio::test]
async fn a_waiting_job_can_be_cancelled_and_held() {
    let world = World::new().await;
    let at = world.clock.now().plus_secs(1000);
    for id in ["a", "b"] {
        world
            .hub
            .create_job(ostler_core::job::JobSpec { start: Some(at), ..twin_job(id, "*") })
            .await
            .unwrap();
    }
    let cancelled = world.hub.cancel_job(&job_id("a")).await.unwrap();
    assert_eq!((cancelled.status, cancelled.ended), (JobStatus::Cancelled, Some(world.clock.now())));
    assert_eq!(world.hub.cancel_job(&job_id("a")).await.unwrap().status, JobStatus::Cancelled);
    assert_eq!(world.hub.pause_job(&job_id("b")).await.unwrap().status, JobStatus::Paused);
    world.clock.jump(2000);
    assert_eq!(world.hub.job(&job_id("b")).await.unwrap().status, JobStatus::Paused);
    world.hub.resume_job(&job_id("b")).await.unwrap();
    assert_eq!(world.ended(&job_id("b")).await.status, JobStatus::Completed);
    let ended = Err(Error::JobState(Refused::Ended(JobStatus::Completed)));
    assert_eq!(world.hub.cancel_job(&job_id("b")).await, ended);
    assert_eq!(world.hub.pause_job(&job_id("b")).await, ended);
    assert_eq!(world.hub.cancel_job(&job_id("c")).await, Err(Error::JobNotFound("c".into())));
    assert_eq!(world.hub.retry_job(&job_id("b"), job_id("r")).await, Err(Refused::NothingFailed.into()));
}

#[tokio::test]
async fn a_running_job_can_be_held_and_cancelled() {
    let world = World::new().await;
    world.devices(6).await;
    let calls = Calls::default();
    world.answering("d00", &calls).await;
    world.hub.create_job(method_job("j", Rollout::default())).await.unwrap();
    let succeeded =
        |count| move |view: &ostler_core::job::JobView| view.counts.is_some_and(|c| c.succeeded == count);
    world.until(&job_id("j"), succeeded(1)).await;
    world.hub.pause_job(&job_id("j")).await.unwrap();
    world.answering("d01", &calls).await;
    // Held, its devices' time does not run out.
    world.clock.jump(1000);
    world.hub.resume_job(&job_id("j")).await.unwrap();
    world.until(&job_id("j"), succeeded(2)).await;
    let mut progress = world.hub.job_progress(&job_id("j")).await.unwrap();
    let view = world.hub.cancel_job(&job_id("j")).await.unwrap();
    assert_eq!(view.status, JobStatus::Cancelled);
    world.check_counts(&view).await;
    assert_eq!(view.counts.unwrap().cancelled, 4);
    while progress.changed().await.is_ok() {}
    assert_eq!(*progress.borrow(), view);
    assert_eq!(calls.lock().len(), 2);
}

#[tokio::test]
async fn jobs_are_listed_page_by_page() {
    let world = World::new().await;
    for i in 0..7 {
        world.run(twin_job(&format!("t{i}"), "*")).await;
        world.run(method_job(&format!("m{i}"), Rollout::default())).await;
    }
    let filter = JobFilter { kind: Some(JobKind::Method), statuses: vec![JobStatus::Completed] };
    let (mut after, mut seen): (Option<JobId>, Vec<String>) = (None, Vec::new());
    loop {
        let page = world.hub.jobs(&filter, after.as_ref(), 3).await.unwrap();
        assert!(page.jobs.len() <= 3);
        seen.extend(page.jobs.iter().map(|view| view.spec.id.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["m0", "m1", "m2", "m3", "m4", "m5", "m6"]);
}

#[tokio::test]
async fn waiting_jobs_are_bounded_and_survive() {
    let (store, clock) = (Arc::new(Embedded::in_memory()), TestClock::new());
    let world = World::over(store.clone(), clock.clone()).await;
    let start = Some(clock.now().plus_secs(100));
    let create = |i: usize| {
        world.hub.create_job(ostler_core::job::JobSpec { start, ..twin_job(&format!("j{i:05}"), "*") })
    };
    for chunk in (0..JOBS_ACTIVE).collect::<Vec<_>>().chunks(500) {
        for created in futures_util::future::join_all(chunk.iter().map(|i| create(*i))).await {
            created.unwrap();
        }
    }
    assert_eq!(create(99_999).await, Err(Error::TooManyJobs(JOBS_ACTIVE)));
    drop(world);
    let world = World::over(store, clock.clone()).await;
    assert_eq!(world.hub.active_jobs(), JOBS_ACTIVE);
    clock.jump(101);
    while world.hub.active_jobs() > 0 {
        look_again().await;
    }
    let last = world.hub.job(&job_id("j09999")).await.unwrap();
    assert_eq!(last.status, JobStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn ended_jobs_go_after_their_time() {
    let (store, clock) = (Arc::new(Embedded::in_memory()), TestClock::new());
    let world = World::over(store.clone(), clock.clone()).await;
    world.devices(3).await;
    world.run(twin_job("old", "*")).await;
    clock.jump(20 * 86_400);
    world.run(twin_job("new", "*")).await;
    clock.jump(11 * 86_400);
    while world.hub.job(&job_id("old")).await.is_ok() {
        // The clock is paused: this is when the hub looks next, at no cost of time.
        tokio::time::sleep(Duration::from_secs(600)).await;
    }
    assert!(world.hub.job(&job_id("new")).await.is_ok());
    use ostler_store::Store;
    let left = store.documents(Shelf::DeviceJobs, "", None, 100).await.unwrap();
    assert!(left.len() == 3 && left.iter().all(|(key, _)| key.starts_with("new/")));
}

#[tokio::test]
async fn a_drained_hub_leaves_its_jobs_to_the_next() {
    let store = Arc::new(Embedded::in_memory());
    let clock = TestClock::new();
    let world = World::over(store.clone(), clock.clone()).await;
    world.devices(3).await;
    let calls = Calls::default();
    world.answering("d00", &calls).await;
    world.hub.create_job(method_job("j", Rollout::default())).await.unwrap();
    world.until(&job_id("j"), |view| view.counts.is_some_and(|counts| counts.succeeded == 1)).await;
    world.hub.drain_jobs().await;
    assert!(matches!(world.hub.pause_job(&job_id("j")).await, Err(Error::Store(_))));
    drop(world);
    let world = World::over(store, clock).await;
    for i in 0..3 {
        world.answering(&name(i), &calls).await;
    }
    let view = world.ended(&job_id("j")).await;
    world.check_counts(&view).await;
    assert!(calls.lock().values().all(|count| *count == 1), "{calls:?}");
    assert_eq!(view.counts.unwrap().succeeded, 3);
}

#[tokio::test]
async fn a_hub_that_is_dropped_is_gone() {
    let world = World::new().await;
    world.devices(2).await;
    world.hub.create_job(method_job("j", Rollout::default())).await.unwrap();
    world.until(&job_id("j"), |view| view.counts.is_some()).await;
    let weak = Arc::downgrade(&world.hub);
    drop(world);
    while weak.upgrade().is_some() {
        tokio::task::yield_now().await;
    }
    let _ = Hub::open(Arc::new(Embedded::in_memory()), Options::default()).await.unwrap();
}
