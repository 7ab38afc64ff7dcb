//! A hub whose clock can be set, and devices that answer calls.

use crate::support::*;
use ostler_core::job::{DeviceJob, DeviceJobStatus, JobCounts, JobId, JobSpec, JobView, Rollout, Work};
use ostler_core::method::MethodCall;
use ostler_core::record::Interest;
use ostler_core::time::Timestamp;
use ostler_core::twin::TwinPatch;
use ostler_hub::jobs::DeviceJobFilter;
use ostler_hub::session::News;
use ostler_hub::{Clock, Hub, Options};
use ostler_store::{Embedded, Store};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// 2026-06-01.
const START_SECS: i64 = 1_780_272_000;

/// Lets the others work before a condition is looked at again. A pause and not a mere yield, because a
/// paused clock moves on only when everybody rests.
pub async fn look_again() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[derive(Clone)]
pub struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub fn new() -> TestClock {
        TestClock(Arc::new(AtomicI64::new(START_SECS)))
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_unix_secs(self.0.load(Ordering::SeqCst))
    }

    /// Forth, or back.
    pub fn jump(&self, secs: i64) {
        self.0.fetch_add(secs, Ordering::SeqCst);
    }

    pub fn options(&self) -> Options {
        let clock = self.clone();
        Options { clock: Clock::new(move || clock.now(), Duration::from_millis(2)), ..Options::default() }
    }
}

pub struct World {
    pub hub: Arc<Hub>,
    pub clock: TestClock,
}

/// How often each device was called.
pub type Calls = Arc<Mutex<BTreeMap<String, u32>>>;

impl World {
    pub async fn new() -> World {
        World::over(Arc::new(Embedded::in_memory()), TestClock::new()).await
    }

    pub async fn over(store: Arc<dyn Store>, clock: TestClock) -> World {
        World { hub: Hub::open(store, clock.options()).await.unwrap(), clock }
    }

    /// Devices `d00`, `d01`, …
    pub async fn devices(&self, count: usize) {
        for i in 0..count {
            create(&self.hub, &name(i)).await;
        }
    }

    /// Connects a device that answers every call with 200, until the task is dropped.
    pub async fn answering(&self, device: &str, calls: &Calls) -> JoinHandle<()> {
        let mut session = connect(&self.hub, device, true).await;
        subscribe(&self.hub, &session, &[Interest::Methods]).await;
        let (hub, calls, device) = (Arc::downgrade(&self.hub), calls.clone(), device.to_owned());
        tokio::spawn(async move {
            while let Ok(news) = news(&mut session).await {
                let (News::Call { id, .. }, Some(hub)) = (news, hub.upgrade()) else { continue };
                *calls.lock().entry(device.clone()).or_default() += 1;
                hub.answer(session.state(), id, 200, b"{\"ok\":1}");
            }
        })
    }

    pub async fn run(&self, spec: JobSpec) -> JobView {
        let id = spec.id.clone();
        self.hub.create_job(spec).await.unwrap();
        self.ended(&id).await
    }

    pub async fn ended(&self, id: &JobId) -> JobView {
        self.until(id, |view| view.status.is_terminal()).await
    }

    /// The first view for which this holds; the test's own timeout catches what never comes.
    pub async fn until(&self, id: &JobId, holds: impl Fn(&JobView) -> bool) -> JobView {
        loop {
            let view = self.hub.job(id).await.unwrap();
            if holds(&view) {
                return view;
            }
            look_again().await;
        }
    }

    pub async fn rows(&self, id: &JobId) -> Vec<DeviceJob> {
        let filter = DeviceJobFilter { job: Some(id.clone()), device: None };
        let page = self.hub.device_jobs(&filter, None, 100_000).await.unwrap();
        assert_eq!(page.next, None);
        page.rows
    }

    /// Device and status of each row, and the code of its failure.
    pub async fn outcomes(&self, id: &JobId) -> Vec<String> {
        let rows = self.rows(id).await;
        let line = |row: &DeviceJob| {
            let error = row.error.as_ref().map_or("", |failure| failure.code.name());
            format!("{} {} {error}", row.device, row.status.name()).trim().to_owned()
        };
        rows.iter().map(line).collect()
    }

    /// Every device has one final outcome, and the counts say so.
    pub async fn check_counts(&self, view: &JobView) {
        let rows = self.rows(&view.spec.id).await;
        let count = |status| rows.iter().filter(|row| row.status == status).count() as u64;
        let counts = JobCounts {
            devices: rows.len() as u64,
            pending: 0,
            running: 0,
            succeeded: count(DeviceJobStatus::Completed),
            failed: count(DeviceJobStatus::Failed),
            cancelled: count(DeviceJobStatus::Canceled),
        };
        assert_eq!(view.counts, Some(counts), "{rows:#?}");
        assert_eq!(counts.succeeded + counts.failed + counts.cancelled, counts.devices);
        assert_eq!(view.failures_by_cause.values().sum::<u64>(), counts.failed);
    }
}

pub fn name(i: usize) -> String {
    format!("d{i:02}")
}

pub fn job_id(text: &str) -> JobId {
    JobId::new(text).unwrap()
}

pub fn spec(id: &str, work: Work, condition: &str, rollout: Rollout) -> JobSpec {
    JobSpec {
        id: job_id(id),
        work,
        condition: condition.into(),
        start: None,
        max_execution_secs: 100,
        rollout,
    }
}

pub fn twin_job(id: &str, condition: &str) -> JobSpec {
    spec(id, Work::Twin(desired("{\"floor\":3}")), condition, Rollout::default())
}

pub fn tags_job(id: &str, text: &str) -> JobSpec {
    let patch = TwinPatch { tags: Some(ostler_core::twin::SectionPatch::Merge(object(text))), desired: None };
    spec(id, Work::Twin(patch), "*", Rollout::default())
}

pub fn method_job(id: &str, rollout: Rollout) -> JobSpec {
    let call = MethodCall::new("lockDoor", b"{}", Some(30), None).unwrap();
    spec(id, Work::Method(call), "*", rollout)
}
