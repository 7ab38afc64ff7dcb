//! The method step: note as running, call, record what came of it.
//!
//! Invariant: a call goes out only after its device is durably running. So a crash leaves no call that
//! nobody knows of, and a device found running is not called again.

use super::codec::{encode_step, step_key, Step};
use super::commit::Gone;
use super::feed::{Todo, PAGE};
use super::sweep::{pending, put};
use super::wave::{Again, Event, Outcome, Wave};
use crate::error::Error;
use crate::methods::ask;
use futures_util::future::FutureExt;
use ostler_core::job::{AfterFailure, DeviceJobStatus, Failure, FailureCode, Offline, Stage, Work};
use ostler_core::method::{MethodAnswer, MethodCall};
use ostler_core::time::Timestamp;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// Devices of one job that may be at their call, or about to be.
const JOB_CALLS: usize = 8192;
/// Devices that are noted as running in one commit.
const MARK_AT_ONCE: usize = 1024;
/// Such commits of one job under way.
const MARKS: usize = 2;
/// Calls made before others get their turn.
const CALLS_PER_TURN: usize = 256;
/// Outcomes stored in one commit.
const RECORD_AT_ONCE: usize = 2048;
/// Such commits of one job under way.
const RECORDS: usize = 2;

impl Wave<'_> {
    fn most_calls(&self) -> usize {
        let most = self.run.job.spec.rollout.concurrency;
        most.and_then(|most| usize::try_from(most).ok()).map_or(JOB_CALLS, |most| most.min(JOB_CALLS))
    }

    pub(super) fn has_room_for_calls(&self) -> bool {
        self.beginning < MARKS && self.in_flight < self.most_calls()
    }

    /// Notes as running those that are connected; the others wait or fail.
    pub(super) async fn begin_calls(&mut self, now: Timestamp) -> Result<(), Gone> {
        if !self.has_room_for_calls() {
            return Ok(());
        }
        let room = (self.most_calls() - self.in_flight).min(MARK_AT_ONCE);
        let most = self.allowed(room);
        let mut todos = Vec::new();
        for _ in 0..PAGE {
            if todos.len() >= most {
                break;
            }
            let Some(todo) = self.ready.pop_front() else { break };
            if self.run.shared.bus.is_listening(&todo.device) {
                todos.push(todo);
            } else if !self.run.shared.exists(&todo.device).await? {
                self.fail(todo, DeviceJobStatus::Pending, Failure::deleted(), now);
            } else if self.run.job.spec.rollout.offline == Offline::Wait {
                self.wait_for(todo);
            } else {
                let todo = Todo { attempts: todo.attempts + 1, ..todo };
                self.fail(todo, DeviceJobStatus::Pending, Failure::offline(), now);
            }
        }
        if !todos.is_empty() {
            self.begun(todos.len());
            self.mark(todos);
        }
        Ok(())
    }

    fn mark(&mut self, todos: Vec<Todo>) {
        let (shared, halt, id) = (self.run.shared.clone(), self.halt.clone(), self.run.id.clone());
        let step = Step { status: DeviceJobStatus::Running, ..self.step() };
        let mark = async move {
            let count = u32::try_from(todos.len()).unwrap_or(u32::MAX);
            let Ok(permits) = shared.calls.clone().acquire_many_owned(count).await else {
                return Event::Gone;
            };
            if halt.load(Ordering::SeqCst) {
                return Event::NotBegun(todos);
            }
            let step = Step { updated: shared.now(), ..step };
            let change = |todo: &Todo| {
                let step = Step { attempts: todo.attempts + 1, ..step.clone() };
                put(&step_key(&id, todo.device.as_str()), encode_step(&step))
            };
            match shared.commit_all(|| todos.iter().map(change).collect()).await {
                Ok(_) => Event::Marked(todos, permits),
                Err(Gone) => Event::Gone,
            }
        };
        self.flying.push(mark.boxed());
    }

    pub(super) fn take_marked(&mut self, todos: Vec<Todo>, mut permits: OwnedSemaphorePermit) {
        self.beginning -= 1;
        for todo in todos {
            self.run.tally.note(DeviceJobStatus::Pending, DeviceJobStatus::Running, None);
            if let Some(permit) = permits.split(1) {
                self.marked.push_back((todo, permit));
            }
        }
    }

    /// Calls some of those that are durably running.
    pub(super) fn call_some(&mut self) {
        let Work::Method(call) = &self.run.job.spec.work else { return };
        // Whether the device is there was looked at; if it has just gone, it is waited for in the job's way.
        let call = MethodCall { connect_timeout: Duration::ZERO, ..call.clone() };
        for _ in 0..CALLS_PER_TURN {
            let Some((todo, permit)) = self.marked.pop_front() else { break };
            let (shared, call) = (self.run.shared.clone(), call.clone());
            let calling = async move {
                let now = || shared.now();
                let (bus, stats, events) = (&shared.bus, &shared.stats, &shared.events);
                let answer = ask(bus, stats, events, now, &todo.device, call).await;
                drop(permit);
                Event::Called(todo, answer)
            };
            self.flying.push(calling.boxed());
        }
    }

    pub(super) fn take_answer(&mut self, todo: Todo, answer: Result<MethodAnswer, Error>) {
        self.in_flight -= 1;
        let now = self.run.shared.now();
        let is_stopping = !matches!(self.run.job.stage, Stage::Wave { .. });
        let tried = Todo { attempts: todo.attempts + 1, ..todo.clone() };
        let from = DeviceJobStatus::Running;
        let spec = &self.run.job.spec;
        match answer {
            Ok(answer) => self.outbox.push(Outcome {
                device: tried.device,
                from,
                to: DeviceJobStatus::Completed,
                answer: Some(answer),
                error: None,
                attempts: tried.attempts,
                again: Again::Never,
            }),
            // It went offline between the look and the call: not a try.
            Err(Error::DeviceNotOnline { .. }) if spec.rollout.offline == Offline::Wait => {
                let is_late = now >= self.deadline() && !is_stopping;
                let late = || Failure::not_started(spec.work.kind(), spec.max_execution_secs);
                self.outbox.push(Outcome {
                    device: todo.device,
                    from,
                    to: if is_late { DeviceJobStatus::Failed } else { DeviceJobStatus::Pending },
                    answer: None,
                    error: is_late.then(late),
                    attempts: todo.attempts,
                    again: if is_late { Again::Never } else { Again::Online },
                });
            }
            Err(error) => self.fail(tried, from, failure(&error), now),
        }
    }

    /// A try failed; `todo` counts it. Another one follows when the job wants it.
    fn fail(&mut self, todo: Todo, from: DeviceJobStatus, failure: Failure, now: Timestamp) {
        let is_stopping = !matches!(self.run.job.stage, Stage::Wave { .. });
        let rollout = &self.run.job.spec.rollout;
        let after = AfterFailure::decide(&failure, rollout, todo.attempts, self.deadline(), now);
        let (to, again) = match after {
            AfterFailure::RetryAt(at) if !is_stopping => (DeviceJobStatus::Pending, Again::At(at)),
            _ => (DeviceJobStatus::Failed, Again::Never),
        };
        self.outbox.push(Outcome {
            device: todo.device,
            from,
            to,
            answer: None,
            error: Some(failure),
            attempts: todo.attempts,
            again,
        });
    }

    /// Stores outcomes; while some are on their way, others gather for the next commit.
    pub(super) fn record(&mut self, now: Timestamp) {
        while self.recording < RECORDS && !self.outbox.is_empty() {
            let count = self.outbox.len().min(RECORD_AT_ONCE);
            let outcomes: Vec<Outcome> = self.outbox.drain(..count).collect();
            let (shared, id, step) = (self.run.shared.clone(), self.run.id.clone(), self.step());
            let record = async move {
                let change = |outcome: &Outcome| {
                    let step = Step {
                        status: outcome.to,
                        attempts: outcome.attempts,
                        updated: now,
                        outcome: outcome.answer.clone(),
                        error: outcome.error.clone(),
                        ..step.clone()
                    };
                    put(&step_key(&id, outcome.device.as_str()), encode_step(&step))
                };
                match shared.commit_all(|| outcomes.iter().map(change).collect()).await {
                    Ok(_) => Event::Recorded(outcomes),
                    Err(Gone) => Event::Gone,
                }
            };
            self.recording += 1;
            self.flying.push(record.boxed());
        }
    }

    /// What the device jobs of this wave have in common.
    pub(super) fn step(&self) -> Step {
        let job = &self.run.job;
        let created = job.started.unwrap_or(job.created);
        pending(job.spec.work.kind(), self.index, self.time, created)
    }
}

fn failure(error: &Error) -> Failure {
    let code = match error {
        Error::DeviceNotOnline { .. } => return Failure::offline(),
        Error::MethodTimeout { .. } => FailureCode::GatewayTimeout,
        Error::BadDeviceAnswer(_) => FailureCode::BadDeviceResponse,
        Error::TooManyCalls(_) => FailureCode::DeviceMaximumInflightMethodExceeded,
        _ => FailureCode::ServerError,
    };
    Failure::new(code, error.to_string())
}
