//! The bounded queue between the tasks that want something durable and the writer thread.
//!
//! ```text
//!   task: reserve room (async wait) ──> push ──> wait for the answer
//!   writer thread: take everything that waits at once, answer after the sync
//! ```
//!
//! Must not know: what a write is.
//!
//! Invariant: what waits or is being written never exceeds the room, apart from one request that is
//! larger than all of it.

use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that a request takes in the queue beside its records.
const REQUEST_BYTES: usize = 256;

/// See the module documentation.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    wake: Condvar,
    room: Arc<Semaphore>,
    capacity: u32,
}

struct State<T> {
    waiting: Vec<T>,
    writer_sleeps: bool,
    closed: bool,
}

/// Part of the queue's room, given back on drop.
pub(crate) struct Room {
    _permit: OwnedSemaphorePermit,
}

/// What the writer thread finds when it looks.
pub(crate) struct Drained<T> {
    pub(crate) requests: Vec<T>,
    /// Nothing more will come.
    pub(crate) closed: bool,
}

/// The queue takes nothing any more.
#[derive(Debug)]
pub(crate) struct Closed;

impl<T> Queue<T> {
    /// A queue with room for `bytes`.
    pub(crate) fn new(bytes: u32) -> Queue<T> {
        let state = State { waiting: Vec::new(), writer_sleeps: false, closed: false };
        let room = Arc::new(Semaphore::new(bytes as usize));
        Queue { state: Mutex::new(state), wake: Condvar::new(), room, capacity: bytes }
    }

    /// Waits until there is room for a request of this size; first come, first served.
    pub(crate) async fn reserve(&self, bytes: usize) -> Result<Room, Closed> {
        let bytes = u32::try_from(bytes.saturating_add(REQUEST_BYTES)).unwrap_or(u32::MAX).min(self.capacity);
        let permit = self.room.clone().acquire_many_owned(bytes).await.map_err(|_| Closed)?;
        Ok(Room { _permit: permit })
    }

    /// Adds a request, for which room is reserved, and wakes the writer if it sleeps.
    pub(crate) fn push(&self, request: T) -> Result<(), Closed> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Closed);
        }
        state.waiting.push(request);
        let wake = std::mem::take(&mut state.writer_sleeps);
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Takes all that waits; sleeps until there is something, the time is up or the queue closes.
    pub(crate) fn drain(&self, until: Option<Instant>) -> Drained<T> {
        let mut state = self.state.lock();
        while state.waiting.is_empty() && !state.closed {
            state.writer_sleeps = true;
            match until {
                None => self.wake.wait(&mut state),
                Some(until) => {
                    if self.wake.wait_until(&mut state, until).timed_out() {
                        break;
                    }
                }
            }
        }
        state.writer_sleeps = false;
        Drained { requests: std::mem::take(&mut state.waiting), closed: state.closed }
    }

    /// Requests that wait to be taken.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Takes nothing any more and drops what waits: nobody is left to serve it.
    pub(crate) fn abandon(&self) {
        self.close();
        let waiting = std::mem::take(&mut self.state.lock().waiting);
        drop(waiting);
    }

    /// Takes nothing any more; what waits is still handed out.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.room.close();
        self.wake.notify_one();
    }
}
