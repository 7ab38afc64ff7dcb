//! The life of jobs as tables and as random walks.

use super::*;
use crate::method::MethodCall;
use crate::time::Timestamp;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_unix_secs(1_780_000_000 + secs)
}

fn job(rollout: Rollout) -> Job {
    let call = MethodCall::new("m", b"null", None, None).unwrap();
    let spec = JobSpec {
        id: JobId::new("j").unwrap(),
        work: Work::Method(call),
        condition: "*".into(),
        start: None,
        max_execution_secs: 0,
        rollout,
    };
    Job::new(spec.checked().unwrap(), None, at(0))
}

#[test]
fn ids() {
    for good in ["j", "query", "a-b_c.d:E9", &"x".repeat(64)] {
        assert!(JobId::new(good).is_ok(), "{good}");
    }
    for bad in ["", "a/b", "a b", "é", &"x".repeat(65)] {
        assert!(JobId::new(bad).is_err(), "{bad}");
    }
}

#[test]
fn words_come_back() {
    for status in JobStatus::ALL {
        assert_eq!(JobStatus::parse(status.name()), Some(status));
    }
    for kind in [JobKind::Method, JobKind::Twin] {
        assert_eq!(JobKind::parse(kind.name()), Some(kind));
    }
    assert_eq!(JobKind::parse("scheduleTwinUpdate"), Some(JobKind::Twin));
    assert_eq!(JobKind::parse("export"), None);
}

#[test]
fn rules_of_a_rollout() {
    let check = |rollout: Rollout| rollout.check().map_err(|error| error.to_string());
    let fine = Rollout::default();
    assert_eq!(check(fine.clone()), Ok(()));
    let bad = |rollout: Rollout, part: &str| {
        let text = check(rollout).unwrap_err();
        assert!(text.contains(part), "{text}");
    };
    bad(Rollout { rate: Some(0), ..fine.clone() }, "rate is 0, allowed are 1");
    bad(Rollout { attempts: 0, ..fine.clone() }, "attempts is 0, allowed are 1 to 100");
    bad(Rollout { concurrency: Some(0), ..fine.clone() }, "concurrency");
    bad(Rollout { waves: Waves::Sizes(vec![]), ..fine.clone() }, "0 waves");
    bad(Rollout { waves: Waves::Sizes(vec![1, 0]), ..fine.clone() }, "a wave's size is 0");
    bad(Rollout { waves: Waves::Percent(vec![60, 50]), ..fine.clone() }, "add up to 110");
    bad(Rollout { waves: Waves::ByTag([].into()), ..fine.clone() }, "no name");
    let gate = Gate { min_success_percent: Some(101), ..Gate::default() };
    bad(Rollout { gate, ..fine }, "minSuccessPercent is 101");
}

#[test]
fn waves_by_size_and_share() {
    let sizes = |waves, devices| plan(&waves, devices).iter().map(|wave| wave.devices).collect::<Vec<_>>();
    assert_eq!(sizes(Waves::One, 7), [7]);
    assert_eq!(sizes(Waves::One, 0), [0; 0]);
    assert_eq!(sizes(Waves::Sizes(vec![2, 3]), 10), [2, 3, 5]);
    assert_eq!(sizes(Waves::Sizes(vec![2, 30]), 10), [2, 8]);
    assert_eq!(sizes(Waves::Percent(vec![1, 10]), 1000), [10, 100, 890]);
    assert_eq!(sizes(Waves::Percent(vec![1, 99]), 3), [1, 2]);
    let groups = [(None, 4), (Some("b".to_owned()), 2), (Some("a".to_owned()), 1)].into();
    let waves = by_shares(groups).unwrap();
    assert_eq!(waves.iter().map(|wave| wave.devices).collect::<Vec<_>>(), [1, 2, 4]);
    let many: BTreeMap<_, _> = (0..1001).map(|i| (Some(format!("{i:04}")), 1)).collect();
    assert_eq!(by_shares(many), Err(1001));
}

#[test]
fn a_pause_does_not_count() {
    let gate = Gate { soak_secs: 60, ..Gate::default() };
    let mut job = job(Rollout { waves: Waves::Sizes(vec![1]), gate, ..Rollout::default() });
    job.expanded(plan(&job.spec.rollout.waves, 2), at(10));
    assert_eq!((job.status(at(10)), job.deadline()), (JobStatus::Running, Some(at(3610))));
    job.pause(at(20)).unwrap();
    job.pause(at(25)).unwrap();
    assert_eq!(job.status(at(30)), JobStatus::Paused);
    job.resume(at(120)).unwrap();
    assert_eq!((job.resume(at(121)), job.deadline()), (Err(Refused::NotPaused), Some(at(3710))));
    job.wave_done(&Tally::new(2, 1), at(200));
    assert_eq!(job.stage, Stage::Soak { next: 1, until: at(260) });
    job.pause(at(210)).unwrap();
    job.resume(at(310)).unwrap();
    job.soak_over(at(359));
    assert_eq!(job.stage, Stage::Soak { next: 1, until: at(360) });
    job.soak_over(at(360));
    assert_eq!(job.stage, Stage::Wave { index: 1, started: at(360) });
    // A clock that went back while the job was held gives no time and takes none.
    job.pause(at(400)).unwrap();
    job.resume(at(300)).unwrap();
    assert_eq!(job.stage, Stage::Wave { index: 1, started: at(300) });
}

#[test]
fn retries() {
    let rollout = Rollout { attempts: 3, retry_backoff_secs: 10, ..Rollout::default() };
    let timeout = Failure::new(FailureCode::GatewayTimeout, "");
    let decide = |failure: &Failure, attempts, deadline| {
        AfterFailure::decide(failure, &rollout, attempts, at(deadline), at(0))
    };
    assert_eq!(decide(&timeout, 1, 100), AfterFailure::RetryAt(at(10)));
    assert_eq!(decide(&timeout, 2, 100), AfterFailure::RetryAt(at(20)));
    assert_eq!(decide(&timeout, 2, 20), AfterFailure::Final);
    assert_eq!(decide(&timeout, 3, 100), AfterFailure::Final);
    for failure in [Failure::deleted(), Failure::unknown(), Failure::not_started(JobKind::Twin, 5)] {
        assert_eq!(decide(&failure, 1, 100), AfterFailure::Final);
    }
    assert_eq!(Rollout { retry_backoff_secs: 3600, ..rollout }.backoff_secs(40), 30 * 86_400);
}

#[test]
fn gates() {
    let tally = |failed, succeeded, consecutive| {
        let mut tally = Tally::new(100, 10);
        (tally.wave.failed, tally.job.failed) = (failed, failed);
        (tally.wave.succeeded, tally.consecutive) = (succeeded, consecutive);
        tally
    };
    let failures = Gate { stop_after_failures: Some(3), ..Gate::default() };
    assert_eq!(failures.during(&tally(2, 0, 0)), None);
    assert_eq!(failures.during(&tally(3, 0, 0)), Some(Stop::Failures(3)));
    let percent = Gate { stop_after_failed_percent: Some(20), ..Gate::default() };
    assert_eq!(percent.during(&tally(1, 0, 0)), None);
    assert!(percent.during(&tally(2, 0, 0)).unwrap().to_string().contains("2 of the wave's 10"));
    let row = Gate { stop_after_consecutive: Some(2), ..Gate::default() };
    assert_eq!(
        (row.during(&tally(9, 0, 1)), row.during(&tally(2, 0, 2))),
        (None, Some(Stop::Consecutive(2)))
    );
    let success = Gate { min_success_percent: Some(95), ..Gate::default() };
    assert!(success.after_wave(&tally(1, 9, 0)).is_some());
    assert_eq!(success.after_wave(&tally(0, 10, 0)), None);
    assert_eq!(Gate::default().during(&tally(10, 0, 10)), None);
}

/// A step of a random life.
#[derive(Clone, Debug)]
enum Step {
    Outcome(bool),
    Cancel,
    Pause,
    Resume,
    Wait(u32),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => any::<bool>().prop_map(Step::Outcome),
        1 => Just(Step::Cancel),
        2 => Just(Step::Pause),
        3 => Just(Step::Resume),
        4 => (0..100u32).prop_map(Step::Wait),
    ]
}

fn any_waves() -> impl Strategy<Value = Waves> {
    prop_oneof![
        Just(Waves::One),
        prop::collection::vec(1..5u64, 1..4).prop_map(Waves::Sizes),
        prop::collection::vec(1..30u8, 1..4).prop_map(Waves::Percent),
    ]
}

/// Walks a job through steps as a runner would; what is recorded comes back beside it.
fn walk(job: &mut Job, devices: u64, steps: &[Step]) -> Tally {
    let mut now = at(0);
    job.expanded(plan(&job.spec.rollout.waves, devices), now);
    let mut tally = Tally::new(devices, job.waves.first().map_or(0, |wave| wave.devices));
    for step in steps {
        let before = job.stage.clone();
        match (step, &before) {
            (Step::Outcome(good), Stage::Wave { .. }) if job.paused.is_none() => {
                let to = if *good { DeviceJobStatus::Completed } else { DeviceJobStatus::Failed };
                let failure = (!good).then(Failure::offline);
                tally.note(DeviceJobStatus::Pending, to, failure.as_ref());
            }
            (Step::Cancel, _) => drop(job.cancel(now)),
            (Step::Pause, _) => drop(job.pause(now)),
            (Step::Resume, _) => drop(job.resume(now)),
            (Step::Wait(secs), _) => now = now.plus_secs((*secs).into()),
            (Step::Outcome(_), _) => {}
        }
        if let Some(stop) = job.spec.rollout.gate.during(&tally) {
            job.gate_closed(stop);
        }
        if tally.is_wave_done() {
            job.wave_done(&tally, now);
        }
        if job.paused.is_none() {
            job.soak_over(now);
        }
        if let (Stage::Wave { index, .. }, false) = (&job.stage, before == job.stage) {
            if !matches!(before, Stage::Wave { index: old, .. } if old == *index) {
                tally.begin_wave(job.waves[*index].devices);
            }
        }
        if matches!(job.stage, Stage::Stopping { .. }) {
            tally.note_canceled(tally.job.pending);
            job.stopped(&tally, now);
        }
        check(job, &tally, devices, &before);
    }
    tally
}

fn check(job: &Job, tally: &Tally, devices: u64, before: &Stage) {
    let counts = tally.job;
    let sum = counts.pending + counts.running + counts.succeeded + counts.failed + counts.cancelled;
    assert_eq!((counts.devices, sum), (devices, devices));
    assert_eq!(tally.causes.values().sum::<u64>(), counts.failed);
    if let Stage::Ended(status) = before {
        assert_eq!(job.stage, Stage::Ended(*status), "an ended job changed");
    }
    if let Stage::Ended(status) = &job.stage {
        assert!(job.counts == Some(counts) && job.ended.is_some() && job.paused.is_none());
        assert!(*status != JobStatus::Completed || (counts.pending == 0 && counts.cancelled == 0));
        assert_eq!(*status == JobStatus::Failed, job.failure_reason.is_some());
    }
    let view = job.view(Some(tally), at(0));
    assert_eq!(view.status.is_terminal(), job.has_ended());
    assert_eq!(view.counts, Some(counts));
}

proptest! {
    #[test]
    fn every_life_ends_with_every_device_counted_once(
        waves in any_waves(),
        devices in 0..30u64,
        min in prop::option::of(0..=100u8),
        most in prop::option::of(1..10u64),
        soak_secs in prop_oneof![Just(0u32), 1..50u32],
        steps in prop::collection::vec(any_step(), 0..80),
    ) {
        let gate = Gate { min_success_percent: min, stop_after_failures: most, soak_secs, ..Gate::default() };
        let mut job = job(Rollout { waves, gate, ..Rollout::default() });
        let tally = walk(&mut job, devices, &steps);
        prop_assert_eq!(job.waves.iter().map(|wave| wave.devices).sum::<u64>(), devices);
        prop_assert!(job.waves.iter().all(|wave| wave.devices > 0));
        prop_assert!(tally.wave.devices <= devices);
    }

    #[test]
    fn a_count_made_anew_is_the_same(outcomes in prop::collection::vec(0..4u8, 0..50)) {
        use DeviceJobStatus::{Canceled, Completed, Failed, Pending, Running};
        let devices = outcomes.len() as u64;
        let (mut noted, mut anew) = (Tally::new(devices, devices), Tally::default());
        for outcome in outcomes {
            let (to, failure) = match outcome {
                0 => (Completed, None),
                1 => (Failed, Some(Failure::deleted())),
                2 => (Canceled, None),
                _ => (Pending, None),
            };
            noted.note(Pending, Running, None);
            noted.note(Running, to, failure.as_ref());
            anew.add(to, failure.as_ref(), true);
        }
        prop_assert_eq!((noted.job, noted.wave, noted.causes), (anew.job, anew.wave, anew.causes));
    }

    #[test]
    fn a_pace_is_kept(rate in 1..2000u32, waits in prop::collection::vec(0..300_000u64, 1..200)) {
        let (mut pace, mut now, mut begun) = (Pace::new(rate), 0u64, 0u64);
        for wait in waits {
            now += wait;
            let count = pace.available(now);
            pace.take(count);
            begun += count;
            let allowed = 1 + u64::from(rate) * now / 1_000_000;
            prop_assert!(begun <= allowed + 1, "{begun} after {now} µs at {rate}/s");
            let soon = now + pace.wait_micros();
            prop_assert!(pace.clone().available(soon) >= 1);
        }
    }
}
