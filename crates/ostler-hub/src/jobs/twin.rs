//! The twin step: change the twin and store the outcome, in one commit.
//!
//! A batch loads, patches and commits many devices; several batches are under way at once, so one is
//! prepared while another is synced, on as many cores as there are.
//!
//! Invariant: a twin is changed by a job exactly once, because the change and the outcome stand or fall
//! together and a device with an outcome is not taken again.

use super::codec::{encode_step, step_key, Step};
use super::commit::{readable, Gone};
use super::feed::Todo;
use super::sweep::put;
use super::table::Shared;
use super::wave::{Again, Event, Outcome, Wave};
use crate::bus::{Bus, Tell};
use crate::events::{about, EventKind};
use crate::hub::Hub;
use futures_util::future::FutureExt;
use ostler_core::id::EntityId;
use ostler_core::job::{DeviceJobStatus, Failure, FailureCode, Job, Work};
use ostler_core::json::Object;
use ostler_core::twin::{DesiredChange, Section, SectionKind, SectionPatch, TwinPatch};
use ostler_store::{Change, CommitError, Expect};
use std::sync::atomic::Ordering;
use std::sync::Arc;

/// Devices changed in one commit.
const PATCH_AT_ONCE: usize = 512;
/// Batches of one job under way.
const BATCHES: usize = 4;
/// Twins changed before others get their turn.
const PER_TURN: usize = 64;

impl Wave<'_> {
    fn most_patches(&self) -> usize {
        let most = self.run.job.spec.rollout.concurrency;
        most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX)
    }

    pub(super) fn has_room_for_patches(&self) -> bool {
        self.beginning < BATCHES && self.in_flight < self.most_patches()
    }

    /// Sends a batch on its way.
    pub(super) fn begin_patches(&mut self) {
        if !self.has_room_for_patches() {
            return;
        }
        let room = self.most_patches() - self.in_flight;
        let count = self.allowed(room.min(PATCH_AT_ONCE)).min(self.ready.len());
        if count == 0 {
            return;
        }
        let todos: Vec<Todo> = self.ready.drain(..count).collect();
        self.begun(todos.len());
        let (shared, halt, job) = (self.run.shared.clone(), self.halt.clone(), self.run.job.clone());
        let step = self.step();
        let batch = async move {
            let Ok(permit) = shared.patches.clone().acquire_owned().await else { return Event::Gone };
            if halt.load(Ordering::SeqCst) {
                return Event::NotBegun(todos);
            }
            // A task of its own, so that another core can take it.
            let patched = tokio::spawn(async move {
                let patched = patch_all(&shared, &job, &step, todos).await;
                drop(permit);
                patched
            });
            match patched.await {
                Ok(Ok(outcomes)) => Event::Patched(outcomes),
                Ok(Err(Gone)) | Err(_) => Event::Gone,
            }
        };
        self.flying.push(batch.boxed());
    }
}

/// A change that is decided but not durable.
struct Decided {
    device: EntityId,
    change: Change,
    told: Option<DesiredChange>,
    version: u64,
    error: Option<Failure>,
}

async fn patch_all(
    shared: &Arc<Shared>,
    job: &Arc<Job>,
    step: &Step,
    todos: Vec<Todo>,
) -> Result<Vec<Outcome>, Gone> {
    let Work::Twin(patch) = &job.spec.work else { return Ok(Vec::new()) };
    let mut left: Vec<EntityId> = todos.into_iter().map(|todo| todo.device).collect();
    let mut outcomes = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let decided = decide_all(shared, job, step, patch, left).await?;
        left = commit_all(shared, patch, decided, &mut outcomes).await?;
    }
    Ok(outcomes)
}

async fn decide_all(
    shared: &Shared,
    job: &Job,
    step: &Step,
    patch: &TwinPatch,
    devices: Vec<EntityId>,
) -> Result<Vec<Decided>, Gone> {
    let now = shared.now();
    let step = Step { updated: now, attempts: 1, ..step.clone() };
    let done = encode_step(&Step { status: DeviceJobStatus::Completed, ..step.clone() });
    let mut decided = Vec::with_capacity(devices.len());
    for (i, device) in devices.into_iter().enumerate() {
        if i % PER_TURN == PER_TURN - 1 {
            tokio::task::yield_now().await;
        }
        let key = step_key(&job.spec.id, device.as_str());
        let failed = |failure: Failure| {
            let error = Some(failure.clone());
            let bytes = encode_step(&Step { status: DeviceJobStatus::Failed, error, ..step.clone() });
            (put(&key, bytes), None, 0, Some(failure))
        };
        let (change, told, version, error) =
            match shared.read(|| readable(shared.store.load(&device))).await? {
                Err(error) => failed(Failure::new(FailureCode::ServerError, error.to_string())),
                Ok(None) => failed(Failure::deleted()),
                Ok(Some(mut record)) => match std::mem::take(&mut record.twin).patch(patch, now) {
                    Err(error) => failed(Failure::new(FailureCode::ArgumentInvalid, error.to_string())),
                    Ok((twin, told)) => {
                        let (expect, version) = (Expect::Revision(record.revision), twin.version);
                        record.twin = twin;
                        let change = Change::Put { record: Box::new(record), expect };
                        (Change::Together(vec![change, put(&key, done.clone())]), told, version, None)
                    }
                },
            };
        decided.push(Decided { device, change, told, version, error });
    }
    Ok(decided)
}

/// Commits, then tells; the devices whose twins were changed by others meanwhile come back.
async fn commit_all(
    shared: &Shared,
    patch: &TwinPatch,
    decided: Vec<Decided>,
    outcomes: &mut Vec<Outcome>,
) -> Result<Vec<EntityId>, Gone> {
    let hub = shared.hub.upgrade().ok_or(Gone)?;
    // Held until the devices are told, so that they hear of their versions in order. Those that are not
    // connected need not hear, and without them batches do not wait for each other.
    let heeds = |decided: &Decided| decided.told.is_some() && hub.bus.is_connected(&decided.device);
    let heeding: Vec<bool> = decided.iter().map(heeds).collect();
    let ids = decided.iter().zip(&heeding).filter(|(_, heeds)| **heeds).map(|(decided, _)| &decided.device);
    let turn = hub.notify_in_order(ids).await;
    let (mut changes, mut rest) = (Vec::with_capacity(decided.len()), Vec::with_capacity(decided.len()));
    for Decided { device, change, told, version, error } in decided {
        changes.push(change);
        rest.push((device, told, version, error));
    }
    let results = hub.commit_all(changes).await;
    let (mut left, mut late, mut trouble) = (Vec::new(), Vec::new(), None);
    for (((device, told, version, error), result), heeds) in rest.into_iter().zip(results).zip(heeding) {
        match result {
            Ok(_) => {
                if error.is_none() {
                    hub.stats().service_changes.add(1);
                    show(&hub, &device, patch, told.as_ref(), version);
                }
                match told {
                    Some(change) if heeds => hub.tell(&device, Tell::DesiredChanged(Arc::new(change))),
                    Some(change) if hub.bus.is_connected(&device) => late.push((device.clone(), change)),
                    _ => {}
                }
                outcomes.push(outcome(device, error));
            }
            Err(CommitError::Store(error)) => {
                trouble = Some(error);
                left.push(device);
            }
            Err(_) => {
                hub.stats().commit_retries.add(1);
                left.push(device);
            }
        }
    }
    drop(turn);
    for (device, change) in late {
        tell_late(shared, &hub, &device, change).await?;
    }
    // A hub that is only waited for must be able to go.
    drop(hub);
    if let Some(error) = trouble {
        shared.have_patience(&error).await?;
    }
    Ok(left)
}

fn outcome(device: EntityId, error: Option<Failure>) -> Outcome {
    Outcome {
        device,
        from: DeviceJobStatus::Pending,
        to: if error.is_none() { DeviceJobStatus::Completed } else { DeviceJobStatus::Failed },
        answer: None,
        error,
        attempts: 1,
        again: Again::Never,
    }
}

/// Tells a device that connected while its change was being committed. When the next change was told
/// before this one, the device is given everything, because it drops what is older than what it has.
async fn tell_late(shared: &Shared, hub: &Hub, device: &EntityId, change: DesiredChange) -> Result<(), Gone> {
    let _turn = hub.notify_in_order(std::iter::once(device)).await;
    let Ok(Some(record)) = shared.read(|| readable(shared.store.load(device))).await? else { return Ok(()) };
    let (desired, nothing) = (&record.twin.desired, Section::default());
    let all = || DesiredChange { patch: desired.as_patch_over(&nothing), version: desired.version };
    let change = if desired.version == change.version { change } else { all() };
    hub.tell(device, Tell::DesiredChanged(Arc::new(change)));
    Ok(())
}

/// Shows a change to the watchers of the live stream.
fn show(hub: &Hub, device: &EntityId, patch: &TwinPatch, told: Option<&DesiredChange>, version: u64) {
    if let Some(change) = told {
        hub.events().emit(|| {
            let (section, version, patch) = (SectionKind::Desired, change.version, change.patch.clone());
            about(device, hub.now(), EventKind::TwinChanged { section, version, patch })
        });
    }
    if let Some(tags) = &patch.tags {
        hub.events().emit(|| {
            let patch = match tags {
                SectionPatch::Merge(patch) => patch.clone(),
                SectionPatch::Clear => Object::new(),
            };
            about(device, hub.now(), EventKind::TwinChanged { section: SectionKind::Tags, version, patch })
        });
    }
}
