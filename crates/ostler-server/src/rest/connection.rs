//! One HTTP connection as a stream of bytes: who is slow, and who is still sending when we hang up.
//!
//! hyper's own header timeout makes and drops a timer for every request; a [`Pulse`] notes the time of each change
//! instead and one timer per connection looks at it now and then.
//!
//! Must not know HTTP beyond its phases, nor the hub.
//!
//! Invariant: a connection that neither sends a request nor reads its answer is closed within its limit plus one
//! quarter of the smallest limit.

use std::future::{poll_fn, Future};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicU8, Ordering::Relaxed};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{sleep, Instant, Sleep};

/// How long a refused client may go on sending before the connection is cut; long enough for it to read the answer.
const LINGER: Duration = Duration::from_secs(2);
/// How much of it is read and dropped meanwhile. Most clients send all of a body before they read, and tell their
/// user of a broken connection instead of the answer when it is cut before.
const LINGER_BYTES: usize = 16 << 20;

/// How slow a client may be.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Between requests.
    pub idle: Duration,
    /// From the first byte of a request to the end of its headers.
    pub head: Duration,
    /// Without reading any of the answer that waits for it.
    pub write: Duration,
}

/// Why a connection is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stalled {
    /// No request came.
    Idle,
    /// A request's headers did not end.
    Head,
    /// The answer was not read.
    Write,
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    Idle,
    Head,
    Busy,
}

/// What a connection was last seen doing, and since when.
pub struct Pulse {
    start: Instant,
    phase: AtomicU8,
    /// Milliseconds after `start`.
    since: AtomicU64,
    /// Milliseconds after `start`, plus one; 0 while the client reads.
    blocked: AtomicU64,
    linger: AtomicBool,
}

impl Pulse {
    /// A connection that was just accepted.
    pub fn new() -> Arc<Pulse> {
        Arc::new(Pulse {
            start: Instant::now(),
            phase: AtomicU8::new(Phase::Idle as u8),
            since: AtomicU64::new(0),
            blocked: AtomicU64::new(0),
            linger: AtomicBool::new(false),
        })
    }

    /// The headers of a request are complete; the hub is at work until the guard is dropped.
    pub fn begin(self: &Arc<Pulse>) -> Busy {
        self.linger.store(false, Relaxed);
        self.enter(Phase::Busy);
        Busy(self.clone())
    }

    /// A request was answered without reading all of it: when the connection ends, give the client the time to read the
    /// answer before its own sending meets a reset.
    pub fn linger_at_end(&self) {
        self.linger.store(true, Relaxed);
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
        self.since.store(self.now(), Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn stalled(&self, patience: &Patience) -> Option<Stalled> {
        let now = self.now();
        let over = |since: u64, limit: Duration| u128::from(now.saturating_sub(since)) >= limit.as_millis();
        let blocked = self.blocked.load(Relaxed);
        if blocked != 0 && over(blocked - 1, patience.write) {
            return Some(Stalled::Write);
        }
        let (phase, since) = (self.phase.load(Relaxed), self.since.load(Relaxed));
        if phase == Phase::Idle as u8 && over(since, patience.idle) {
            return Some(Stalled::Idle);
        }
        (phase == Phase::Head as u8 && over(since, patience.head)).then_some(Stalled::Head)
    }

    /// Ends when the client was too slow.
    pub async fn stall(&self, patience: Patience) -> Stalled {
        let tick = patience.idle.min(patience.head).min(patience.write) / 4;
        loop {
            sleep(tick.max(Duration::from_millis(1))).await;
            if let Some(stalled) = self.stalled(&patience) {
                return stalled;
            }
        }
    }
}

/// As long as it lives, the client waits for the hub and not the hub for the client.
pub struct Busy(Arc<Pulse>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.enter(Phase::Idle);
    }
}

/// A stream that tells a [`Pulse`] what happens on it.
pub struct Watched<Io> {
    io: Io,
    pulse: Arc<Pulse>,
    lingering: Option<Lingering>,
}

struct Lingering {
    until: Pin<Box<Sleep>>,
    bytes_left: usize,
}

impl<Io> Watched<Io> {
    /// Watches a stream.
    pub fn new(io: Io, pulse: Arc<Pulse>) -> Watched<Io> {
        Watched { io, pulse, lingering: None }
    }

    /// The stream itself, no longer watched.
    pub fn into_inner(self) -> Io {
        self.io
    }
}

impl<Io: AsyncRead + Unpin> Watched<Io> {
    /// Reads and drops what the client still sends, up to the limits.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let lingering = self
            .lingering
            .get_or_insert_with(|| Lingering { until: Box::pin(sleep(LINGER)), bytes_left: LINGER_BYTES });
        let mut dropped = [0; 4096];
        loop {
            let mut buf = ReadBuf::new(&mut dropped);
            match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    lingering.bytes_left = lingering.bytes_left.saturating_sub(buf.filled().len());
                    if lingering.bytes_left == 0 {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return lingering.until.as_mut().poll(cx),
            }
        }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Watched<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before && self.pulse.phase.load(Relaxed) == Phase::Idle as u8 {
            self.pulse.enter(Phase::Head);
        }
        polled
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.note_write(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.note_write(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.note_write(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            std::task::ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            // In the middle of a head it was hyper who refused, for instance because the head is too large.
            let refused =
                self.pulse.linger.load(Relaxed) || self.pulse.phase.load(Relaxed) == Phase::Head as u8;
            if !refused {
                return Poll::Ready(Ok(()));
            }
        }
        self.poll_linger(cx).map(Ok)
    }
}

impl<Io> Watched<Io> {
    fn note_write<T>(&self, polled: Poll<T>) -> Poll<T> {
        let blocked = &self.pulse.blocked;
        match (polled.is_pending(), blocked.load(Relaxed)) {
            (true, 0) => blocked.store(self.pulse.now() + 1, Relaxed),
            (false, 1..) => {
                blocked.store(0, Relaxed);
                // Whoever reads a long answer slowly is not idle.
                self.pulse.since.store(self.pulse.now(), Relaxed);
            }
            _ => {}
        }
        polled
    }
}

/// Hangs up politely: closes our half and waits for the client to close its own, within bounds.
pub async fn hang_up<Io: AsyncRead + AsyncWrite + Unpin>(io: &mut Watched<Io>) {
    io.pulse.linger_at_end();
    // The connection is over either way; an error here has nobody left to tell.
    let _ = poll_fn(|cx| Pin::new(&mut *io).poll_shutdown(cx)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{duplex, AsyncReadExt, AsyncWriteExt};

    const PATIENCE: Patience = Patience {
        idle: Duration::from_secs(100),
        head: Duration::from_secs(20),
        write: Duration::from_secs(40),
    };

    async fn stall_after(pulse: &Pulse) -> (Stalled, u64) {
        let start = Instant::now();
        let stalled = pulse.stall(PATIENCE).await;
        (stalled, start.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_idle() {
        assert_eq!(stall_after(&Pulse::new()).await, (Stalled::Idle, 100));
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_head_is_not_waited_for() {
        let (mut client, server) = duplex(64);
        let pulse = Pulse::new();
        let mut server = Watched::new(server, pulse.clone());
        client.write_all(b"GET").await.unwrap();
        server.read_exact(&mut [0; 3]).await.unwrap();
        assert_eq!(stall_after(&pulse).await, (Stalled::Head, 20));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_must_be_read() {
        let (client, server) = duplex(4);
        let pulse = Pulse::new();
        let mut server = Watched::new(server, pulse.clone());
        let _busy = pulse.begin();
        tokio::select! {
            _ = server.write_all(b"more than four bytes") => panic!("nobody reads"),
            outcome = stall_after(&pulse) => assert_eq!(outcome, (Stalled::Write, 40)),
        }
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_hub_is_no_fault_of_the_client() {
        let pulse = Pulse::new();
        let busy = pulse.begin();
        tokio::select! {
            _ = pulse.stall(PATIENCE) => panic!("the client waits as it should"),
            () = sleep(Duration::from_secs(1000)) => {}
        }
        drop(busy);
        assert_eq!(stall_after(&pulse).await.0, Stalled::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_refused_while_sending_reads_the_answer_first() {
        let (mut client, server) = duplex(16);
        let pulse = Pulse::new();
        let mut server = Watched::new(server, pulse);
        let sender = tokio::spawn(async move {
            client.write_all(&[0; 5000]).await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            answer
        });
        server.write_all(b"refused").await.unwrap();
        hang_up(&mut server).await;
        drop(server);
        assert_eq!(sender.await.unwrap(), b"refused");
    }

    #[tokio::test(start_paused = true)]
    async fn lingering_ends() {
        let (client, server) = duplex(16);
        let mut server = Watched::new(server, Pulse::new());
        let start = Instant::now();
        hang_up(&mut server).await;
        assert_eq!(start.elapsed(), LINGER);
        drop(client);
    }
}
