//! Ending many device jobs at once: those whose time is over, and those of a job that stops; and counting
//! what became of all.

use super::codec::{encode_step, Step};
use super::commit::{readable, Gone};
use super::feed::{read_step, PAGE};
use super::table::{Live, Shared};
use ostler_core::id::EntityId;
use ostler_core::job::{DeviceJobStatus, Failure, JobId, JobKind, Tally};
use ostler_core::time::Timestamp;
use ostler_store::{Change, Shelf};
use std::sync::Arc;

/// What ends the device jobs that have not begun.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sweep {
    /// The time of the devices of a wave is over.
    Expire { wave: usize, kind: JobKind, max_execution_secs: u64 },
    /// The job stops.
    Cancel,
}

/// One page of a sweep.
pub(super) struct Swept {
    /// Why each of them failed; nothing for those that were canceled.
    pub(super) ended: Vec<Option<Failure>>,
    /// Where the next page starts; nothing behind the last.
    pub(super) next: Option<Box<str>>,
}

/// A change of a device job.
pub(super) fn put(key: &str, value: Vec<u8>) -> Change {
    Change::PutDocument { shelf: Shelf::DeviceJobs, key: key.into(), value, expect: None }
}

impl Shared {
    /// Ends one page of device jobs behind the key `after`.
    pub(super) async fn sweep(
        &self,
        job: &JobId,
        live: &Arc<Live>,
        what: Sweep,
        after: Option<Box<str>>,
    ) -> Result<Swept, Gone> {
        let prefix = format!("{job}/");
        let after = after.as_deref();
        let page = self.read(|| self.store.documents(Shelf::DeviceJobs, &prefix, after, PAGE)).await?;
        let is_last = page.len() < PAGE;
        let next = page.last().map(|(key, _)| key.clone()).filter(|_| !is_last);
        let now = self.now();
        let (mut documents, mut ended) = (Vec::new(), Vec::new());
        for (key, document) in &page {
            let Some((device, step)) = read_step(key, &document.value) else { continue };
            if step.status != DeviceJobStatus::Pending {
                continue;
            }
            let step = match what {
                Sweep::Expire { wave, .. } if step.wave != wave => continue,
                Sweep::Cancel => Step { status: DeviceJobStatus::Canceled, error: None, ..step },
                Sweep::Expire { kind, max_execution_secs, .. } => {
                    let failure = match step.error.clone() {
                        Some(last) => last,
                        None if !self.exists(&device).await? => Failure::deleted(),
                        None => Failure::not_started(kind, max_execution_secs),
                    };
                    Step { status: DeviceJobStatus::Failed, error: Some(failure), ..step }
                }
            };
            self.waiting.remove(&device, live);
            documents.push((key.clone(), encode_step(&Step { updated: now, ..step.clone() })));
            ended.push(step.error);
        }
        if !documents.is_empty() {
            self.commit_all(|| documents.iter().map(|(key, value)| put(key, value.clone())).collect())
                .await?;
        }
        Ok(Swept { ended, next })
    }

    /// Counts what became of a job's devices, after the hub was stopped while it ran. A method call that
    /// was under way then has an unknown outcome.
    pub(super) async fn recount(&self, job: &JobId, wave: usize) -> Result<Tally, Gone> {
        let prefix = format!("{job}/");
        let (mut tally, mut after) = (Tally::default(), None::<Box<str>>);
        loop {
            self.go_on()?;
            let from = after.as_deref();
            let page = self.read(|| self.store.documents(Shelf::DeviceJobs, &prefix, from, PAGE)).await?;
            let now = self.now();
            let mut unknown = Vec::new();
            for (key, document) in &page {
                let Some((_, mut step)) = read_step(key, &document.value) else { continue };
                if step.status == DeviceJobStatus::Running {
                    step.status = DeviceJobStatus::Failed;
                    step.error = Some(Failure::unknown());
                    step.updated = now;
                    unknown.push((key.clone(), encode_step(&step)));
                }
                tally.add(step.status, step.error.as_ref(), step.wave == wave);
            }
            if !unknown.is_empty() {
                self.commit_all(|| unknown.iter().map(|(key, value)| put(key, value.clone())).collect())
                    .await?;
                self.stats.job_steps_failed.add(unknown.len() as u64);
            }
            if page.len() < PAGE {
                return Ok(tally);
            }
            after = page.into_iter().last().map(|(key, _)| key);
            tokio::task::yield_now().await;
        }
    }

    /// Deletes every device job of a job.
    pub(super) async fn delete_steps(&self, job: &str) -> Result<(), Gone> {
        let (prefix, mut after) = (format!("{job}/"), None::<Box<str>>);
        loop {
            self.go_on()?;
            let from = after.as_deref();
            let page = self.read(|| self.store.documents(Shelf::DeviceJobs, &prefix, from, PAGE)).await?;
            let delete = |(key, _): &(Box<str>, _)| Change::DeleteDocument {
                shelf: Shelf::DeviceJobs,
                key: key.clone(),
            };
            if !page.is_empty() {
                self.commit_all(|| page.iter().map(delete).collect()).await?;
            }
            if page.len() < PAGE {
                return Ok(());
            }
            after = page.into_iter().last().map(|(key, _)| key);
            tokio::task::yield_now().await;
        }
    }

    /// Whether a device is registered; one whose record cannot be read is.
    pub(super) async fn exists(&self, device: &EntityId) -> Result<bool, Gone> {
        let found = self.read(|| readable(self.store.load_reported(device))).await?;
        Ok(found.map_or(true, |found| found.is_some()))
    }
}

/// The template of a device job that has not begun.
pub(super) fn pending(
    kind: JobKind,
    wave: usize,
    time: Option<(Timestamp, Timestamp)>,
    now: Timestamp,
) -> Step {
    let (start, end) = time.unzip();
    Step {
        kind,
        status: DeviceJobStatus::Pending,
        wave,
        attempts: 0,
        created: now,
        updated: now,
        start,
        end,
        outcome: None,
        error: None,
    }
}
