//! The one tokio runtime of a process, and how a Python thread waits for it.
//!
//! Must not know: what is waited for.
//!
//! Invariant: whoever waits has released the interpreter's lock and wakes at least every [`SLICE`] to look for signals.
//! Invariant: after [`shut_down`] nobody is, or gets, inside a wait, so that no thread asks for the lock of an
//! interpreter that is being finalised: it would be ended in the middle of native frames, which aborts the process.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

/// The longest a signal, such as Ctrl-C, goes unnoticed in a wait.
pub(crate) const SLICE: Duration = Duration::from_millis(200);

/// Threads for the network; callbacks run in Python's.
const WORKERS: usize = 2;

static CLOSING: AtomicBool = AtomicBool::new(false);
static WAITING: AtomicUsize = AtomicUsize::new(0);
static CLOSED: Notify = Notify::const_new();
static SHARED: Mutex<Option<(u32, &'static Runtime)>> = Mutex::new(None);

/// The runtime of this process. A forked child makes its own, because threads do not survive a fork; what the parent
/// had is left alone.
pub(crate) fn shared() -> PyResult<&'static Runtime> {
    let process = std::process::id();
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((owner, runtime)) = *shared {
        if owner == process {
            return Ok(runtime);
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("ostler-network")
        .enable_all()
        .build()
        .map_err(|error| PyOSError::new_err(format!("no thread for the network: {error}")))?;
    let runtime: &'static Runtime = Box::leak(Box::new(runtime));
    *shared = Some((process, runtime));
    // Who waited when a parent forked waits there and not here.
    WAITING.store(0, Ordering::SeqCst);
    Ok(runtime)
}

/// Waits for `future` with the interpreter's lock released.
///
/// # Errors
/// What a signal handler raised (`KeyboardInterrupt` as a rule), or `RuntimeError` once the interpreter is closing; the
/// future is dropped then.
pub(crate) fn wait<F>(py: Python<'_>, future: F) -> PyResult<F::Output>
where
    F: Future + Send,
    F::Output: Send,
{
    let runtime = shared()?;
    let _inside = Inside::enter()?;
    let mut future = pin!(future);
    loop {
        let slice = async {
            tokio::select! {
                output = future.as_mut() => Some(output),
                () = CLOSED.notified() => None,
                () = tokio::time::sleep(SLICE) => None,
            }
        };
        if let Some(output) = py.detach(|| runtime.block_on(slice)) {
            return Ok(output);
        }
        py.check_signals()?;
        refuse_when_closing()?;
    }
}

/// Like [`wait`], for threads that signals never reach: it sleeps until something happens.
///
/// # Errors
/// `RuntimeError` once the interpreter is closing; the future is dropped then.
pub(crate) fn rest<F>(py: Python<'_>, future: F) -> PyResult<F::Output>
where
    F: Future + Send,
    F::Output: Send,
{
    let runtime = shared()?;
    let _inside = Inside::enter()?;
    let future = async {
        tokio::select! {
            output = future => Some(output),
            () = CLOSED.notified() => None,
        }
    };
    match py.detach(|| runtime.block_on(future)) {
        Some(output) => Ok(output),
        None => Err(closing()),
    }
}

/// Whether [`shut_down`] was called.
#[pyfunction]
pub(crate) fn is_shutting_down() -> bool {
    CLOSING.load(Ordering::SeqCst)
}

/// Counts those who wait, from before they release the lock until they hold it again.
struct Inside;

impl Inside {
    fn enter() -> PyResult<Self> {
        WAITING.fetch_add(1, Ordering::SeqCst);
        let inside = Self;
        refuse_when_closing()?;
        Ok(inside)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::SeqCst);
    }
}

fn refuse_when_closing() -> PyResult<()> {
    if CLOSING.load(Ordering::SeqCst) {
        return Err(closing());
    }
    Ok(())
}

fn closing() -> PyErr {
    PyRuntimeError::new_err("the interpreter is shutting down")
}

/// Ends every wait of every thread for good; called once at exit, after the packages have stopped their workers.
/// Gives up after `limit_secs`.
#[pyfunction]
pub(crate) fn shut_down(py: Python<'_>, limit_secs: f64) {
    CLOSING.store(true, Ordering::SeqCst);
    let owner = SHARED.lock().unwrap_or_else(PoisonError::into_inner).map(|(owner, _)| owner);
    if owner != Some(std::process::id()) {
        return;
    }
    let deadline = Instant::now() + Duration::from_secs_f64(limit_secs.clamp(0.0, 60.0));
    while WAITING.load(Ordering::SeqCst) > 0 && Instant::now() < deadline {
        CLOSED.notify_waiters();
        py.detach(|| std::thread::sleep(Duration::from_millis(1)));
    }
}
