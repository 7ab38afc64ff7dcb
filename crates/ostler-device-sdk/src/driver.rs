//! The task of a client: moves bytes between the engine and the transport, makes transports, and keeps time.
//!
//! Reading happens in a buffer that all clients of a thread share; a client holds bytes of its own only while the hub
//! does not read. Dialling and leaving are futures of their own, dropped when they end: what is left of an idle client is
//! its engine, its socket and one timer.
//!
//! Must not know: topics, what is said, when to try again.
//!
//! Invariant: there is at most one transport, and the engine knows of it.
//! Invariant: while more than [`MAX_UNSENT`] bytes wait for the hub, nothing is read from it.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Sleep;

use crate::engine::{Lost, Next};
use crate::shared::Inner;
use crate::transport::{DialError, DialKind, Stream};

/// Read at once.
const READ_BYTES: usize = 64 << 10;
const MAX_UNSENT: usize = 256 << 10;
/// How long the hub may take to read what is left at a goodbye.
const GOODBYE: Duration = Duration::from_secs(2);
/// Rounds before others get their turn.
const MAX_ROUNDS: usize = 64;
const NEVER: u64 = u64::MAX;
/// Further than this the timer does not reach; it is set again then.
const FAR_MS: u64 = 365 * 24 * 3600 * 1000;

thread_local! {
    static INPUT: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// Runs a client until it is over.
pub(crate) async fn run(inner: Arc<Inner>) {
    // However the task ends, whoever waits is told.
    let _over = Over(inner.clone());
    let timer = Box::pin(tokio::time::sleep_until(inner.instant(inner.now())));
    Driver { inner, place: Place::Nowhere, timer, armed: NEVER, renew_at: None, was_connected: false }.await;
}

struct Over(Arc<Inner>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.finish();
    }
}

type Dialling = Pin<Box<dyn Future<Output = Result<Stream, DialError>> + Send>>;

/// Where the connection stands.
enum Place {
    Nowhere,
    Dialling(Dialling),
    Up(Link),
    Leaving(Pin<Box<dyn Future<Output = ()> + Send>>),
}

/// A transport and what it has not taken yet.
struct Link {
    stream: Stream,
    unsent: Vec<u8>,
    written: usize,
}

struct Driver {
    inner: Arc<Inner>,
    place: Place,
    timer: Pin<Box<Sleep>>,
    /// When the timer fires, in ms; [`NEVER`] before it was set.
    armed: u64,
    /// When the token should be replaced, in ms.
    renew_at: Option<u64>,
    /// The hub has let this client in before.
    was_connected: bool,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let driver = &mut *self;
        for _ in 0..MAX_ROUNDS {
            driver.inner.lock().look(cx.waker());
            let moved = driver.poll_place(cx);
            let next = {
                let now = driver.inner.now();
                let mut core = driver.inner.lock();
                if driver.renew_at.is_some_and(|at| at <= now) {
                    driver.renew_at = None;
                    core.engine.renew(now);
                }
                core.engine.next(now)
            };
            driver.inner.dispatch();
            match next {
                Next::Done => return Poll::Ready(()),
                Next::Dial => driver.dial(),
                Next::Close => {
                    let leaving = matches!(driver.place, Place::Leaving(_));
                    if leaving && !moved && !driver.inner.lock().is_dirty() {
                        return Poll::Pending;
                    }
                    driver.leave();
                }
                Next::Idle { until } => {
                    let wrote = match driver.write(cx) {
                        Ok(wrote) => wrote,
                        Err(lost) => {
                            driver.lose(lost);
                            continue;
                        }
                    };
                    let due = driver.poll_timer(until, cx).is_ready();
                    if !moved && !wrote && !due && !driver.inner.lock().is_dirty() {
                        return Poll::Pending;
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Driver {
    /// Takes part in whatever is under way; true if something moved.
    fn poll_place(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.place {
            Place::Nowhere => false,
            Place::Dialling(dialling) => match dialling.as_mut().poll(cx) {
                Poll::Pending => false,
                Poll::Ready(Ok(stream)) => {
                    self.handle_connected(stream);
                    true
                }
                Poll::Ready(Err(error)) => {
                    let lost = self.lost(&error);
                    self.inner.note(error.text);
                    self.lose(lost);
                    true
                }
            },
            Place::Leaving(leaving) => {
                if leaving.as_mut().poll(cx).is_pending() {
                    return false;
                }
                self.place = Place::Nowhere;
                let now = self.inner.now();
                self.inner.lock().engine.handle_closed(now);
                true
            }
            Place::Up(link) => match link.read(&self.inner, cx) {
                Poll::Pending => false,
                Poll::Ready(Ok(())) => {
                    self.was_connected |= self.inner.lock().status().is_connected();
                    true
                }
                Poll::Ready(Err(lost)) => {
                    self.lose(lost);
                    true
                }
            },
        }
    }

    fn dial(&mut self) {
        let route = self.inner.route.clone();
        self.place = Place::Dialling(Box::pin(async move { route.dial().await }));
    }

    /// The transport is up: sign in.
    fn handle_connected(&mut self, stream: Stream) {
        let password = match self.inner.credential.password(SystemTime::now()) {
            Ok(password) => password,
            Err(_) => {
                self.inner.note("the ready-made token has expired: give a new one by `set_token`".to_owned());
                return self.lose(Lost::Credential);
            }
        };
        self.renew_at = password.renew_in.map(|renew_in| self.inner.after(renew_in));
        self.place = Place::Up(Link { stream, unsent: Vec::new(), written: 0 });
        let now = self.inner.now();
        let text = password.text.as_deref().map(str::as_bytes);
        self.inner.lock().engine.handle_connected_transport(now, &self.inner.username, text);
    }

    /// There is no transport any more.
    fn lose(&mut self, lost: Lost) {
        self.place = Place::Nowhere;
        self.renew_at = None;
        // First what came over it.
        self.inner.dispatch();
        let now = self.inner.now();
        let mut core = self.inner.lock();
        core.mailbox.handle_lost();
        core.engine.handle_lost(lost, now);
    }

    /// The engine has said its last word over this transport, or does not want one any more.
    fn leave(&mut self) {
        self.renew_at = None;
        let place = std::mem::replace(&mut self.place, Place::Nowhere);
        let now = self.inner.now();
        let mut core = self.inner.lock();
        match place {
            Place::Up(mut link) => {
                core.mailbox.handle_lost();
                link.unsent.append(core.engine.output());
                self.place = Place::Leaving(Box::pin(link.say_goodbye()));
            }
            Place::Leaving(leaving) => self.place = Place::Leaving(leaving),
            Place::Nowhere | Place::Dialling(_) => core.engine.handle_closed(now),
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<bool, Lost> {
        let Place::Up(link) = &mut self.place else { return Ok(false) };
        link.write(&self.inner, cx)
    }

    /// Ready when something is due.
    fn poll_timer(&mut self, until: Option<u64>, cx: &mut Context<'_>) -> Poll<()> {
        let now = self.inner.now();
        let next = [until, self.renew_at].into_iter().flatten().min().unwrap_or(NEVER).min(now + FAR_MS);
        // To let it fire early costs less than to move it each time.
        if next < self.armed {
            self.timer.as_mut().reset(self.inner.instant(next));
            self.armed = next;
        }
        let fired = self.timer.as_mut().poll(cx);
        if fired.is_ready() {
            self.armed = NEVER;
        }
        fired
    }

    fn lost(&self, error: &DialError) -> Lost {
        match error.kind {
            DialKind::Dns => Lost::Dns,
            DialKind::Refused | DialKind::Proxy => Lost::Refused,
            DialKind::Timeout => Lost::Timeout,
            DialKind::Reset => Lost::Reset,
            // Once in, it is the network that is strange at the moment, not the setup.
            DialKind::Certificate => Lost::Tls { last: !self.was_connected },
            DialKind::NotLoopback => Lost::Tls { last: true },
            DialKind::Tls => Lost::Tls { last: false },
            DialKind::Protocol => Lost::Protocol,
            DialKind::Busy => Lost::Busy {
                retry_after: error.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(NEVER)),
            },
        }
    }
}

impl Link {
    /// Ready if something was read, or if there will be nothing more.
    fn read(&mut self, inner: &Inner, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        if self.unsent.len() - self.written > MAX_UNSENT || inner.lock().engine.is_paused() {
            return Poll::Pending;
        }
        INPUT.with_borrow_mut(|input| {
            let mut buffer = ReadBuf::new(input);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Err(_)) => Poll::Ready(Err(Lost::Reset)),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(Err(Lost::Closed)),
                Poll::Ready(Ok(())) => {
                    let now = inner.now();
                    inner.lock().engine.handle_input(buffer.filled(), now);
                    Poll::Ready(Ok(()))
                }
            }
        })
    }

    /// Writes as much as the transport takes; true if it took something, so that the engine may have more to say, and
    /// what is not read because of it may be read.
    fn write(&mut self, inner: &Inner, cx: &mut Context<'_>) -> Result<bool, Lost> {
        let mut moved = false;
        loop {
            if self.written == self.unsent.len() {
                self.written = 0;
                self.unsent = std::mem::take(inner.lock().engine.output());
                if self.unsent.is_empty() {
                    break;
                }
            }
            match Pin::new(&mut self.stream).poll_write(cx, &self.unsent[self.written..]) {
                Poll::Pending => break,
                Poll::Ready(Ok(0) | Err(_)) => return Err(Lost::Reset),
                Poll::Ready(Ok(count)) => {
                    self.written += count;
                    moved = true;
                }
            }
        }
        // TLS may hold records that did not fit into the socket.
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(Err(_)) => Err(Lost::Reset),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(moved),
        }
    }

    /// Writes what is left, closes, and waits until the other side has closed too, so that nothing written is lost.
    async fn say_goodbye(mut self) {
        let goodbye = async {
            self.stream.write_all(&self.unsent[self.written..]).await?;
            self.stream.shutdown().await?;
            let mut rest = [0; 64];
            let read = |cx: &mut Context<'_>| {
                let mut buffer = ReadBuf::new(&mut rest);
                match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(Ok(())),
                    Poll::Ready(Ok(())) => {
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    }
                    other => other,
                }
            };
            std::future::poll_fn(read).await
        };
        let said: Result<io::Result<()>, _> = tokio::time::timeout(GOODBYE, goodbye).await;
        if !matches!(said, Ok(Ok(()))) {
            tracing::debug!("the hub did not take leave");
        }
    }
}
