//! The life of one job: its task, the only writer of its documents.

use super::codec::encode_job;
use super::read_job;
use super::table::{Asked, Live, Rest, Shared, Wish};
use ostler_core::job::{Job, JobId, Stage, Tally};
use ostler_store::{Change, Expect, Revision, Shelf};
use std::sync::Arc;

/// Runs a job until it ends or waits again.
pub(super) async fn run(shared: Arc<Shared>, id: JobId) {
    let Some(live) = shared.live(id.as_str()) else { return };
    let Ok(Some(document)) = shared.store.document(Shelf::Jobs, id.as_str()).await else { return };
    let Ok((job, revision)) = read_job(id.as_str(), &document) else { return };
    let mut run = Run { shared, live, job, revision, tally: Tally::default() };
    while run.step().await {}
}

struct Run {
    shared: Arc<Shared>,
    live: Arc<Live>,
    job: Job,
    revision: Revision,
    tally: Tally,
}

impl Run {
    async fn step(&mut self) -> bool {
        if !self.meet_wishes().await {
            return false;
        }
        let id = self.job.spec.id.clone();
        match self.job.stage {
            Stage::Ended(_) => {
                self.shared.remove(&id);
                self.live.show(|| self.job.view(Some(&self.tally), self.shared.now()));
                false
            }
            _ => !self.shared.rest(&id, &Rest::Held),
        }
    }

    async fn meet_wishes(&mut self) -> bool {
        let wishes = self.live.take_wishes();
        if wishes.is_empty() {
            return true;
        }
        let now = self.shared.now();
        let outcomes: Vec<_> = wishes
            .iter()
            .map(|Asked { wish, .. }| match wish {
                Wish::Cancel => self.job.cancel(now),
                Wish::Pause => self.job.pause(now),
                Wish::Resume => self.job.resume(now),
            })
            .collect();
        if !self.save().await {
            return false;
        }
        let view = self.job.view(Some(&self.tally), now);
        for (asked, outcome) in wishes.into_iter().zip(outcomes) {
            // Whoever asked may have left.
            let _ = asked.answer.send(outcome.map(|()| view.clone()));
        }
        true
    }

    async fn save(&mut self) -> bool {
        let change = Change::PutDocument {
            shelf: Shelf::Jobs,
            key: self.job.spec.id.as_str().into(),
            value: encode_job(&self.job),
            expect: Some(Expect::Revision(self.revision)),
        };
        match self.shared.store.commit(vec![change]).await.pop() {
            Some(Ok(revision)) => {
                self.revision = revision;
                self.live.note(&self.job, &self.tally);
                true
            }
            _ => false,
        }
    }
}
