//! Accept loops: connections come in no faster than they can be served, and none is accepted that
//! there is no room for.
//!
//! It must not know what is spoken on a connection; a handler is spawned for each.
//!
//! Invariant: a permit is held before accept is called, so the process never has more
//! connections than permits.
//! Invariant: running out of descriptors slows the loop down; it never ends or spins.

mod bind;
mod half_open;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use self::bind::{open, Doors};
pub use self::bind::{BindError, Fallback};
use self::half_open::{HalfOpen, HalfOpenGuard, Room};
use crate::config::Limits;

/// Descriptors kept for the store, logs and the listeners themselves.
const RESERVED_FILES: u64 = 1024;
/// How often a loop that has no room looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Longest pause after a failed accept.
const MAX_BACK_OFF: Duration = Duration::from_secs(1);

/// What all accept loops share.
pub(crate) struct Gate {
    permits: Arc<Semaphore>,
    max_connections: usize,
    connections: AtomicUsize,
    half_open: Arc<HalfOpen>,
    accept_rate: Option<u32>,
    counters: Counters,
}

/// What the accept loops saw, for metrics.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Connections accepted.
    pub(crate) accepted: AtomicU64,
    /// Connections closed because their source had too many that were not signed in.
    pub(crate) refused_source: AtomicU64,
    /// Accepts that failed, for want of descriptors or memory.
    pub(crate) accept_errors: AtomicU64,
}

/// A connection's place among those there may be; free again when all clones are gone.
#[derive(Clone)]
pub(crate) struct Place(Arc<Taken>);

struct Taken {
    half_open: HalfOpenGuard,
    gate: Arc<Gate>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// The client has shown that it belongs here: the place is its own from now on.
    pub(crate) fn signed_in(&self) {
        self.0.half_open.leave();
    }

    /// Tells which task has the connection now and is to end if the place is needed before the
    /// client has signed in.
    pub(crate) fn attach(&self, task: AbortHandle) {
        self.0.half_open.attach(task);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.gate.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection just accepted.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) address: SocketAddr,
    pub(crate) place: Place,
}

impl Gate {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        let max_connections = limits.max_connections.unwrap_or_else(connections_by_file_limit);
        Arc::new(Self {
            permits: Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS))),
            max_connections,
            connections: AtomicUsize::new(0),
            half_open: HalfOpen::new(limits.max_half_open, limits.max_half_open_per_source),
            accept_rate: limits.accept_rate,
            counters: Counters::default(),
        })
    }

    /// Connections at once.
    pub(crate) fn max_connections(&self) -> usize {
        self.max_connections
    }

    /// Connections there are.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Waits until there is no connection left.
    pub(crate) async fn all_gone(&self) {
        let all = u32::try_from(self.max_connections).unwrap_or(u32::MAX);
        // An error would mean that the semaphore was closed, and then nobody can connect either.
        let _ = self.permits.acquire_many(all).await;
    }

    /// Connections that have not signed in.
    pub(crate) fn half_open(&self) -> usize {
        self.half_open.len()
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Closes what has not signed in.
    pub(crate) fn close_half_open(&self) {
        self.half_open.evict_all();
    }

    /// A permit. While there is none, half-open connections that have had their time make room.
    async fn permit(&self) -> OwnedSemaphorePermit {
        loop {
            let acquire = self.permits.clone().acquire_owned();
            match tokio::time::timeout(LOOK_AGAIN, acquire).await {
                Ok(permit) => return permit.expect("the semaphore is never closed"),
                Err(_) => self.half_open.evict_stale(Instant::now()),
            }
        }
    }

    async fn room(&self) {
        while let Room::NotBefore(at) = self.half_open.make_room(Instant::now()) {
            // An entry may leave earlier; looking again soon costs little and needs no signal.
            tokio::time::sleep_until(at.min(Instant::now() + LOOK_AGAIN)).await;
        }
    }
}

/// Accepts until `stop`, and hands each connection to `serve`, which spawns its task.
pub(crate) async fn accept<S>(listener: TcpListener, gate: Arc<Gate>, stop: CancellationToken, serve: S)
where
    S: Fn(Accepted) -> AbortHandle,
{
    let mut pace = Pace::new(gate.accept_rate);
    let mut back_off = Duration::ZERO;
    loop {
        let next = async {
            let permit = gate.permit().await;
            gate.room().await;
            pace.wait().await;
            (permit, listener.accept().await)
        };
        let Some((permit, accepted)) = until(&stop, next).await else { return };
        match accepted {
            Ok((stream, address)) => {
                back_off = Duration::ZERO;
                admit(&gate, stream, address, permit, &serve);
            }
            // The client gave up while it waited in the queue: nobody's fault.
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                gate.counters.accept_errors.fetch_add(1, Ordering::Relaxed);
                gate.half_open.evict_stale(Instant::now());
                back_off = (back_off * 2).clamp(Duration::from_millis(10), MAX_BACK_OFF);
                tracing::warn!(%error, back_off_ms = back_off.as_millis() as u64, "accept failed");
                if until(&stop, tokio::time::sleep(back_off)).await.is_none() {
                    return;
                }
            }
        }
    }
}

fn admit<S>(gate: &Arc<Gate>, stream: TcpStream, address: SocketAddr, permit: OwnedSemaphorePermit, serve: &S)
where
    S: Fn(Accepted) -> AbortHandle,
{
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    let Some(half_open) = gate.half_open.enter(address.ip(), Instant::now()) else {
        gate.counters.refused_source.fetch_add(1, Ordering::Relaxed);
        return;
    };
    gate.counters.accepted.fetch_add(1, Ordering::Relaxed);
    gate.connections.fetch_add(1, Ordering::Relaxed);
    let place = Place(Arc::new(Taken { half_open, gate: gate.clone(), _permit: permit }));
    // Without it a small answer waits for the acknowledgement of the one before.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let task = serve(Accepted { stream, address, place: place.clone() });
    place.0.half_open.attach_first(task);
}

async fn until<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        value = work => Some(value),
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Spaces accepts evenly, letting a tenth of a second's worth through at once.
struct Pace {
    gap: Option<Duration>,
    due: Instant,
}

impl Pace {
    fn new(rate: Option<u32>) -> Self {
        Self { gap: rate.map(|rate| Duration::from_secs(1) / rate), due: Instant::now() }
    }

    async fn wait(&mut self) {
        let Some(gap) = self.gap else { return };
        let now = Instant::now();
        let burst = Duration::from_millis(100);
        self.due = (self.due + gap).max(now.checked_sub(burst).unwrap_or(now));
        if self.due > now {
            tokio::time::sleep_until(self.due).await;
        }
    }
}

/// Raises the process's soft file limit to the hard one and leaves a reserve.
fn connections_by_file_limit() -> usize {
    use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Refused at worst, and then the soft limit counts.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    usize::try_from(files - RESERVED_FILES.min(files / 4)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use tokio::io::AsyncReadExt;
    use tokio::sync::mpsc;

    async fn start(
        limits: Limits,
    ) -> (SocketAddr, Arc<Gate>, mpsc::UnboundedReceiver<Accepted>, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Gate::new(&limits);
        let (sender, receiver) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        tokio::spawn(accept(listener, gate.clone(), stop.clone(), move |accepted| {
            let sender = sender.clone();
            tokio::spawn(async move {
                let _ = sender.send(accepted);
            })
            .abort_handle()
        }));
        (address, gate, receiver, stop)
    }

    fn limits() -> Limits {
        Config::ephemeral().limits
    }

    #[tokio::test]
    async fn no_more_connections_than_permits() {
        let (address, gate, mut accepted, _stop) =
            start(Limits { max_connections: Some(2), ..limits() }).await;
        let _clients =
            [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let first = accepted.recv().await.unwrap();
        let _second = accepted.recv().await.unwrap();
        let _third = TcpStream::connect(address).await.unwrap();
        assert_eq!(gate.connections(), 2);
        assert!(accepted.try_recv().is_err());
        drop(first);
        accepted.recv().await.unwrap();
    }

    #[tokio::test]
    async fn a_greedy_source_is_closed_not_queued() {
        let (address, gate, mut accepted, _stop) =
            start(Limits { max_half_open_per_source: 1, ..limits() }).await;
        let _first = TcpStream::connect(address).await.unwrap();
        let held = accepted.recv().await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        assert_eq!(second.read(&mut [0; 1]).await.unwrap_or(0), 0);
        assert_eq!(gate.counters().refused_source.load(Ordering::Relaxed), 1);
        held.place.signed_in();
        let _third = TcpStream::connect(address).await.unwrap();
        accepted.recv().await.unwrap();
    }

    #[tokio::test]
    async fn stops_when_told() {
        let (address, _gate, mut accepted, stop) = start(limits()).await;
        stop.cancel();
        assert!(accepted.recv().await.is_none(), "the loop is gone and its handler with it");
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn accepts_are_spaced() {
        let mut pace = Pace::new(Some(10));
        let start = Instant::now();
        for _ in 0..11 {
            pace.wait().await;
        }
        assert_eq!(start.elapsed(), Duration::from_millis(1100));
        assert_eq!(Pace::new(None).gap, None);
    }
}
