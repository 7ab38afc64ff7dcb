//! Whose turn it is: large queries run on threads of their own, a few at a time, and a few more wait.
//!
//! Threads, because a scan would keep an async worker from everything else, and because the engine
//! needs no runtime. One takes some ten microseconds to start, a large query takes milliseconds.
//!
//! Must not know: what a query does.
//!
//! Invariant: at most as many run as there are cores, and at most [`MOST_WAITING`] wait.
//! Invariant: when the caller goes, the work is told so.

use crate::StoreError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;
use tokio::sync::{oneshot, Semaphore};

/// Queries that may wait for their turn.
const MOST_WAITING: usize = 256;

/// See the module documentation.
pub(crate) struct Turns {
    turns: Arc<Semaphore>,
    cores: usize,
    waiting: Arc<AtomicUsize>,
}

/// What a query that runs must look at now and then.
pub(crate) struct Running {
    pub(crate) cancelled: Arc<AtomicBool>,
    /// Threads that it may use beside its own.
    pub(crate) helpers: usize,
}

impl Running {
    /// For work that is too small to be given up.
    pub(crate) fn inline() -> Running {
        Running { cancelled: Arc::default(), helpers: 0 }
    }
}

impl Turns {
    pub(crate) fn new() -> Turns {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Turns { turns: Arc::new(Semaphore::new(cores)), cores, waiting: Arc::default() }
    }

    /// Runs work on a thread of its own when its turn comes.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Running) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let waiting = Waiting::enter(&self.waiting)?;
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        drop(waiting);
        let given_up = GivenUp(Arc::default());
        let running = self.cores - self.turns.available_permits().min(self.cores - 1);
        let running = Running {
            cancelled: given_up.0.clone(),
            helpers: (self.cores / running.max(1)).saturating_sub(1),
        };
        let (answer, outcome) = oneshot::channel();
        let thread = std::thread::Builder::new().name("ostler-query".into());
        let started = thread.spawn(move || {
            let outcome = work(&running);
            drop(turn);
            // The caller may have gone.
            let _ = answer.send(outcome);
        });
        started.map_err(|error| StoreError::Unavailable(format!("no thread for the query: {error}")))?;
        outcome.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the query failed inside".into())))
    }
}

/// A place in the line.
struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn enter(line: &Arc<AtomicUsize>) -> Result<Waiting, StoreError> {
        let place = Waiting(line.clone());
        match line.fetch_add(1, Ordering::Relaxed) {
            before if before >= MOST_WAITING => Err(StoreError::Overloaded),
            _ => Ok(place),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Says so when it is dropped.
struct GivenUp(Arc<AtomicBool>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
