//! The stored form of a job and of a device job.
//!
//! Both begin with a version byte. A job stands under its id, a device job under `job/device`, so neither
//! repeats its names.
//!
//! Must not know: what follows from a job's state.
//!
//! Invariant: what was written by any version is read by every later one.

use crate::bytes::{Damaged, In, Out};
use ostler_core::id::DeviceId;
use ostler_core::job::{
    DeviceJob, DeviceJobStatus, Failure, FailureCode, Gate, Job, JobCounts, JobId, JobKind, JobSpec,
    JobStatus, Offline, Rollout, Stage, Stopped, Wave, Waves, Work,
};
use ostler_core::json::Object;
use ostler_core::method::{MethodAnswer, MethodCall, MethodName};
use ostler_core::time::Timestamp;
use ostler_core::twin::{SectionPatch, TwinPatch};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const VERSION: u8 = 1;

/// The stored form of a job.
pub(super) fn encode_job(job: &Job) -> Vec<u8> {
    let mut out = Out::default();
    out.byte(VERSION);
    write_spec(&mut out, &job.spec);
    out.option(job.parent.as_ref(), |out, parent| out.text(parent.as_str()));
    out.time(job.created);
    for time in [job.started, job.ended, job.paused] {
        out.option(time, Out::time);
    }
    write_stage(&mut out, &job.stage);
    out.number(job.waves.len() as u64);
    for wave in &job.waves {
        out.number(wave.devices);
        out.option(wave.value.as_deref(), Out::text);
    }
    out.option(job.failure_reason.as_deref(), Out::text);
    out.option(job.counts, |out, c| {
        [c.devices, c.pending, c.running, c.succeeded, c.failed, c.cancelled]
            .into_iter()
            .for_each(|count| out.number(count));
    });
    out.number(job.causes.len() as u64);
    for (cause, count) in &job.causes {
        out.text(cause);
        out.number(*count);
    }
    out.0
}

/// Reads the job that stands under `key`.
pub(super) fn decode_job(key: &str, bytes: &[u8]) -> Result<Job, Damaged> {
    let mut input = In(bytes);
    let input = &mut input;
    version(input)?;
    let spec = read_spec(key, input)?;
    Ok(Job {
        spec: Arc::new(spec),
        parent: input.option(read_job_id)?,
        created: input.time()?,
        started: input.option(In::time)?,
        ended: input.option(In::time)?,
        paused: input.option(In::time)?,
        stage: read_stage(input)?,
        waves: input.list(|input| {
            Ok(Wave { devices: input.number()?, value: input.option(In::text)?.map(str::to_owned) })
        })?,
        failure_reason: input.option(In::text)?.map(str::to_owned),
        counts: input.option(read_counts)?,
        causes: input
            .list(|input| Ok((input.text()?.to_owned(), input.number()?)))?
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
    })
}

fn version(input: &mut In<'_>) -> Result<(), Damaged> {
    match input.byte()? {
        VERSION => Ok(()),
        _ => Err(Damaged("its version is not known")),
    }
}

fn read_job_id(input: &mut In<'_>) -> Result<JobId, Damaged> {
    JobId::new(input.text()?).map_err(|_| Damaged("a job's id is not one"))
}

fn read_counts(input: &mut In<'_>) -> Result<JobCounts, Damaged> {
    Ok(JobCounts {
        devices: input.number()?,
        pending: input.number()?,
        running: input.number()?,
        succeeded: input.number()?,
        failed: input.number()?,
        cancelled: input.number()?,
    })
}

fn write_spec(out: &mut Out, spec: &JobSpec) {
    match &spec.work {
        Work::Method(call) => {
            out.byte(0);
            out.text(call.name.as_str());
            out.bytes(&call.payload);
            out.number(call.response_timeout.as_secs());
            out.number(call.connect_timeout.as_secs());
        }
        Work::Twin(patch) => {
            out.byte(1);
            write_section(out, patch.tags.as_ref());
            write_section(out, patch.desired.as_ref());
        }
    }
    out.text(&spec.condition);
    out.option(spec.start, Out::time);
    out.number(spec.max_execution_secs);
    write_rollout(out, &spec.rollout);
}

fn read_spec(key: &str, input: &mut In<'_>) -> Result<JobSpec, Damaged> {
    let work = match input.byte()? {
        0 => Work::Method(MethodCall {
            name: MethodName::new(input.text()?).map_err(|_| Damaged("a method's name is not one"))?,
            payload: input.bytes()?.into(),
            response_timeout: Duration::from_secs(input.number()?),
            connect_timeout: Duration::from_secs(input.number()?),
        }),
        1 => Work::Twin(TwinPatch { tags: read_section(input)?, desired: read_section(input)? }),
        _ => return Err(Damaged("the kind of work is not known")),
    };
    Ok(JobSpec {
        id: JobId::new(key).map_err(|_| Damaged("its key is not a job's id"))?,
        work,
        condition: input.text()?.to_owned(),
        start: input.option(In::time)?,
        max_execution_secs: input.number()?,
        rollout: read_rollout(input)?,
    })
}

fn write_section(out: &mut Out, patch: Option<&SectionPatch>) {
    match patch {
        None => out.byte(0),
        Some(SectionPatch::Clear) => out.byte(1),
        Some(SectionPatch::Merge(object)) => {
            out.byte(2);
            let mut text = Vec::new();
            object.write_to(&mut text);
            out.bytes(&text);
        }
    }
}

fn read_section(input: &mut In<'_>) -> Result<Option<SectionPatch>, Damaged> {
    match input.byte()? {
        0 => Ok(None),
        1 => Ok(Some(SectionPatch::Clear)),
        2 => {
            let object = Object::parse(input.bytes()?).map_err(|_| Damaged("a patch is not JSON"))?;
            Ok(Some(SectionPatch::Merge(object)))
        }
        _ => Err(Damaged("the kind of a patch is not known")),
    }
}

fn write_rollout(out: &mut Out, rollout: &Rollout) {
    let number = |out: &mut Out, value: u32| out.number(value.into());
    out.option(rollout.rate, number);
    out.option(rollout.concurrency, number);
    number(out, rollout.attempts);
    number(out, rollout.retry_backoff_secs);
    out.byte(u8::from(rollout.offline == Offline::Fail));
    match &rollout.waves {
        Waves::One => out.byte(0),
        Waves::Sizes(sizes) => {
            out.byte(1);
            out.number(sizes.len() as u64);
            sizes.iter().for_each(|size| out.number(*size));
        }
        Waves::Percent(shares) => {
            out.byte(2);
            out.bytes(shares);
        }
        Waves::ByTag(path) => {
            out.byte(3);
            out.number(path.len() as u64);
            path.iter().for_each(|key| out.text(key));
        }
    }
    let gate = &rollout.gate;
    out.option(gate.min_success_percent, Out::byte);
    out.option(gate.stop_after_failures, Out::number);
    out.option(gate.stop_after_failed_percent, Out::byte);
    out.option(gate.stop_after_consecutive, Out::number);
    number(out, gate.soak_secs);
}

fn read_rollout(input: &mut In<'_>) -> Result<Rollout, Damaged> {
    Ok(Rollout {
        rate: input.option(In::small)?,
        concurrency: input.option(In::small)?,
        attempts: input.small()?,
        retry_backoff_secs: input.small()?,
        offline: if input.byte()? == 0 { Offline::Wait } else { Offline::Fail },
        waves: match input.byte()? {
            0 => Waves::One,
            1 => Waves::Sizes(input.list(In::number)?),
            2 => Waves::Percent(input.bytes()?.to_vec()),
            3 => Waves::ByTag(input.list(|input| Ok(input.text()?.into()))?.into()),
            _ => return Err(Damaged("the kind of waves is not known")),
        },
        gate: Gate {
            min_success_percent: input.option(In::byte)?,
            stop_after_failures: input.option(In::number)?,
            stop_after_failed_percent: input.option(In::byte)?,
            stop_after_consecutive: input.option(In::number)?,
            soak_secs: input.small()?,
        },
    })
}

fn write_stage(out: &mut Out, stage: &Stage) {
    match stage {
        Stage::Waiting => out.byte(0),
        Stage::Wave { index, started } => {
            out.byte(1);
            out.number(*index as u64);
            out.time(*started);
        }
        Stage::Soak { next, until } => {
            out.byte(2);
            out.number(*next as u64);
            out.time(*until);
        }
        Stage::Stopping { index, reason } => {
            out.byte(3);
            out.number(*index as u64);
            out.option(gate_text(reason), Out::text);
        }
        Stage::Ended(status) => {
            out.byte(4);
            out.byte(match status {
                JobStatus::Completed => 0,
                JobStatus::Cancelled => 1,
                _ => 2,
            });
        }
    }
}

fn gate_text(reason: &Stopped) -> Option<&str> {
    match reason {
        Stopped::Cancelled => None,
        Stopped::Gate(text) => Some(text),
    }
}

fn read_stage(input: &mut In<'_>) -> Result<Stage, Damaged> {
    Ok(match input.byte()? {
        0 => Stage::Waiting,
        1 => Stage::Wave { index: input.small()?, started: input.time()? },
        2 => Stage::Soak { next: input.small()?, until: input.time()? },
        3 => Stage::Stopping {
            index: input.small()?,
            reason: match input.option(In::text)? {
                None => Stopped::Cancelled,
                Some(text) => Stopped::Gate(text.to_owned()),
            },
        },
        4 => Stage::Ended(match input.byte()? {
            0 => JobStatus::Completed,
            1 => JobStatus::Cancelled,
            _ => JobStatus::Failed,
        }),
        _ => return Err(Damaged("the stage is not known")),
    })
}

/// A device job without its names.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) kind: JobKind,
    pub(super) status: DeviceJobStatus,
    /// The wave it belongs to, from 0.
    pub(super) wave: usize,
    pub(super) attempts: u32,
    pub(super) created: Timestamp,
    pub(super) updated: Timestamp,
    pub(super) start: Option<Timestamp>,
    pub(super) end: Option<Timestamp>,
    pub(super) outcome: Option<MethodAnswer>,
    pub(super) error: Option<Failure>,
}

impl Step {
    /// With its names.
    pub(super) fn named(self, job: JobId, device: DeviceId) -> DeviceJob {
        DeviceJob {
            device,
            job,
            kind: self.kind,
            status: self.status,
            start: self.start,
            end: self.end,
            created: self.created,
            updated: self.updated,
            outcome: self.outcome,
            error: self.error,
            attempts: self.attempts,
        }
    }
}

/// The key of a device job.
pub(super) fn step_key(job: &JobId, device: &str) -> Box<str> {
    let mut key = String::with_capacity(job.as_str().len() + 1 + device.len());
    key.push_str(job.as_str());
    key.push('/');
    key.push_str(device);
    key.into()
}

/// The job and the device of a key.
pub(super) fn parse_step_key(key: &str) -> Result<(JobId, DeviceId), Damaged> {
    let (job, device) = key.split_once('/').ok_or(Damaged("its key has no /"))?;
    let job = JobId::new(job).map_err(|_| Damaged("its key has no job's id"))?;
    Ok((job, DeviceId::new(device).map_err(|_| Damaged("its key has no device's id"))?))
}

/// The stored form of a device job.
pub(super) fn encode_step(step: &Step) -> Vec<u8> {
    let mut out = Out(Vec::with_capacity(48));
    out.byte(VERSION);
    out.byte(match step.kind {
        JobKind::Method => 0,
        JobKind::Twin => 1,
    });
    out.byte(place(&DeviceJobStatus::ALL, &step.status));
    out.number(step.wave as u64);
    out.number(step.attempts.into());
    out.time(step.created);
    out.time(step.updated);
    out.option(step.start, Out::time);
    out.option(step.end, Out::time);
    out.option(step.outcome.as_ref(), |out, answer| {
        out.0.extend_from_slice(&answer.status.to_le_bytes());
        out.bytes(&answer.payload);
    });
    out.option(step.error.as_ref(), |out, failure| {
        out.byte(place(&FailureCode::ALL, &failure.code));
        out.text(&failure.text);
    });
    out.0
}

/// Reads a device job.
pub(super) fn decode_step(bytes: &[u8]) -> Result<Step, Damaged> {
    let mut input = In(bytes);
    let input = &mut input;
    version(input)?;
    Ok(Step {
        kind: if input.byte()? == 0 { JobKind::Method } else { JobKind::Twin },
        status: at(&DeviceJobStatus::ALL, input.byte()?)?,
        wave: input.small()?,
        attempts: input.small()?,
        created: input.time()?,
        updated: input.time()?,
        start: input.option(In::time)?,
        end: input.option(In::time)?,
        outcome: input.option(|input| {
            let (status, rest) = input.0.split_first_chunk().ok_or(Damaged("it ends too early"))?;
            input.0 = rest;
            Ok(MethodAnswer { status: i32::from_le_bytes(*status), payload: input.bytes()?.into() })
        })?,
        error: input.option(|input| {
            let code = at(&FailureCode::ALL, input.byte()?)?;
            Ok(Failure::new(code, input.text()?.to_owned()))
        })?,
    })
}

fn place<T: PartialEq>(all: &[T], value: &T) -> u8 {
    all.iter().position(|one| one == value).and_then(|place| u8::try_from(place).ok()).unwrap_or(0)
}

fn at<T: Copy>(all: &[T], place: u8) -> Result<T, Damaged> {
    all.get(usize::from(place)).copied().ok_or(Damaged("a word is not known"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_secs(secs: i64) -> Timestamp {
        Timestamp::from_unix_secs(1_767_225_600 + secs)
    }

    fn jobs() -> Vec<Job> {
        let call = MethodCall::new("reboot", b"{\"a\":[1.50]}", Some(77), Some(5)).unwrap();
        let patch = TwinPatch {
            tags: Some(SectionPatch::Clear),
            desired: Some(SectionPatch::Merge(Object::parse(b"{\"b\":1.0,\"a\":null}").unwrap())),
        };
        let rollout = Rollout {
            rate: Some(7),
            concurrency: Some(3),
            attempts: 4,
            retry_backoff_secs: 9,
            offline: Offline::Fail,
            waves: Waves::ByTag(["site".into(), "hall".into()].into()),
            gate: Gate {
                min_success_percent: Some(90),
                stop_after_failures: Some(300),
                stop_after_failed_percent: Some(20),
                stop_after_consecutive: Some(5),
                soak_secs: 60,
            },
        };
        let spec = |id: &str, work, rollout| JobSpec {
            id: JobId::new(id).unwrap(),
            work,
            condition: "tags.a = 'é'".into(),
            start: Some(at_secs(5)),
            max_execution_secs: 3600,
            rollout,
        };
        let plain = Job::new(spec("a", Work::Method(call.clone()), Rollout::default()), None, at_secs(0));
        let parent = Some(JobId::new("a").unwrap());
        let mut stopped = Job::new(spec("b", Work::Twin(patch), rollout), parent, at_secs(0));
        stopped.expanded(vec![Wave { devices: 3, value: Some("x".into()) }; 2], at_secs(6));
        stopped.pause(at_secs(7)).unwrap();
        stopped.failure_reason = Some("r".into());
        let mut stopping = stopped.clone();
        stopping.stage = Stage::Stopping { index: 1, reason: Stopped::Gate("g".into()) };
        let mut ended = stopped.clone();
        ended.stage = Stage::Ended(JobStatus::Failed);
        ended.counts =
            Some(JobCounts { devices: 6, pending: 1, running: 2, succeeded: 3, failed: 300, cancelled: 5 });
        ended.causes = [("DeviceNotFound".to_owned(), 300)].into();
        let mut soaking = stopped.clone();
        soaking.stage = Stage::Soak { next: 1, until: at_secs(99) };
        let waves = [Waves::Sizes(vec![1, 1000]), Waves::Percent(vec![1, 99])];
        let rollouts = waves.map(|waves| Rollout { waves, ..Rollout::default() });
        let others = rollouts.map(|r| Job::new(spec("c", Work::Method(call.clone()), r), None, at_secs(1)));
        [plain, stopped, stopping, ended, soaking].into_iter().chain(others).collect()
    }

    #[test]
    fn jobs_come_back_and_no_cut_panics() {
        for job in jobs() {
            let bytes = encode_job(&job);
            assert_eq!(decode_job(job.spec.id.as_str(), &bytes), Ok(job));
            for cut in 0..bytes.len() {
                assert!(decode_job("a", &bytes[..cut]).is_err());
            }
        }
    }

    #[test]
    fn steps_come_back_and_no_cut_panics() {
        let pending = Step {
            kind: JobKind::Twin,
            status: DeviceJobStatus::Pending,
            wave: 0,
            attempts: 0,
            created: at_secs(0),
            updated: at_secs(0),
            start: None,
            end: None,
            outcome: None,
            error: None,
        };
        let answered = Step {
            kind: JobKind::Method,
            status: DeviceJobStatus::Completed,
            wave: 700,
            attempts: 3,
            start: Some(at_secs(1)),
            end: Some(at_secs(2)),
            outcome: Some(MethodAnswer { status: -5, payload: b"{}".as_slice().into() }),
            error: Some(Failure::deleted()),
            ..pending.clone()
        };
        for step in [pending, answered] {
            let bytes = encode_step(&step);
            assert_eq!(decode_step(&bytes), Ok(step));
            for cut in 0..bytes.len() {
                assert!(decode_step(&bytes[..cut]).is_err());
            }
        }
        let (job, device) = parse_step_key("j/d").unwrap();
        assert_eq!(&*step_key(&job, device.as_str()), "j/d");
    }
}
