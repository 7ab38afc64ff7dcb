//! Commits of the runner: they are not given up because the store is full or slow for a while.

use super::table::{Phase, Shared};
use ostler_store::{Change, CommitError, Revision, StoreError};
use std::time::Duration;

/// Pause before the store is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The job's task must end and leave everything as it is: the hub stops.
#[derive(Debug)]
pub(super) struct Gone;

impl Shared {
    /// Commits changes that may be made twice, until the store has made them all.
    pub(super) async fn commit_all(
        &self,
        changes: impl Fn() -> Vec<Change>,
    ) -> Result<Vec<Result<Revision, CommitError>>, Gone> {
        loop {
            let outcomes = self.store.commit(changes()).await;
            let failed = outcomes.iter().find_map(|outcome| match outcome {
                Err(CommitError::Store(error)) => Some(error.clone()),
                _ => None,
            });
            let Some(error) = failed else { return Ok(outcomes) };
            self.have_patience(&error).await?;
        }
    }

    /// Ends work that nothing else ends when the hub is to stop.
    pub(super) fn go_on(&self) -> Result<(), Gone> {
        if *self.phase.borrow() == Phase::Open {
            return Ok(());
        }
        Err(Gone)
    }

    /// Waits until a store that could not do something may be asked again.
    pub(super) async fn have_patience(&self, error: &StoreError) -> Result<(), Gone> {
        if *error == StoreError::Closed {
            self.phase.send_replace(Phase::Gone);
            return Err(Gone);
        }
        tracing::warn!(%error, "a job waits for the store");
        let mut phase = self.phase.subscribe();
        let is_gone = async { drop(phase.wait_for(|phase| *phase != Phase::Open).await) };
        if tokio::time::timeout(ASK_AGAIN, is_gone).await.is_ok() {
            return Err(Gone);
        }
        Ok(())
    }

    /// Asks the store until it answers.
    pub(super) async fn read<T, F>(&self, ask: impl Fn() -> F) -> Result<T, Gone>
    where
        F: std::future::Future<Output = Result<T, StoreError>>,
    {
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) => self.have_patience(&error).await?,
            }
        }
    }
}

/// A damaged record is an answer: it stays damaged however often the store is asked, and one of them must not
/// hold up a job, let alone all of them.
pub(super) async fn readable<T>(
    ask: impl std::future::Future<Output = Result<T, StoreError>>,
) -> Result<Result<T, StoreError>, StoreError> {
    match ask.await {
        Err(error @ StoreError::Corrupt { .. }) => Ok(Err(error)),
        answer => answer.map(Ok),
    }
}
