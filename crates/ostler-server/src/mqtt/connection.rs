//! One connection's task: a hand-written future that moves bytes and keeps deadlines.
//!
//! All packets of one read are handled before one write, in buffers that the thread lends
//! ([`Scratch`]); an idle connection owns no buffer at all.
//!
//! It must not know what packets mean; [`super::greeting`] and [`super::device`] do.
//!
//! Invariant: nothing is read while the client leaves unread what it was sent.
//! Invariant: whenever the future waits, everything it waits for will wake it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use ostler_hub::session::{EndReason, Session};
use ostler_wire::mqtt::packet::Refusal;
use ostler_wire::mqtt::server::{self, ProtocolError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::device::{Device, End};
use super::greeting::{self, Greeting};
use super::scratch::Scratch;
use crate::app::App;
use crate::peer::Peer;
use crate::timers::{Alarm, Tick};

/// Output after which a burst of input is interrupted to write.
const WRITE_BYTES: usize = 64 * 1024;
/// Turns after which other tasks of the thread get theirs.
const TURNS: usize = 8;
/// How long a client may take to read why it was refused.
const LINGER: Duration = Duration::from_secs(2);

/// One connection, from the first byte to the last.
pub(super) struct Connection<Io> {
    io: Io,
    app: Arc<App>,
    peer: Peer,
    phase: Phase,
    /// Received and not handled: an incomplete packet, or what waits for an open request.
    unread: Vec<u8>,
    /// Not yet taken by the client.
    unsent: Vec<u8>,
    /// Since when the client has taken nothing; [`Tick::NEVER`] if it owes nothing.
    blocked_since: Tick,
    alarm: Alarm,
}

enum Phase {
    /// Boxed: it is short-lived, and what lives long must not carry its size.
    Greeting(Box<Greeting>),
    Device(Device),
    /// The client was refused and should get to read it.
    Refused {
        until: Tick,
        shut: bool,
    },
    Over,
}

/// What a turn left to do.
#[derive(PartialEq, Eq)]
enum Turn {
    /// More can be done at once.
    Again,
    /// Everything else waits for a wake-up.
    Wait,
}

/// Whether a read brought something.
enum Read {
    Some,
    Pending,
    Eof,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Connection<Io> {
    pub(super) fn new(app: Arc<App>, io: Io, peer: Peer) -> Self {
        let alarm = Alarm::new(app.timers.clone());
        let timeout = app.config.limits.connect_timeout;
        let limits = server::Limits {
            connect_timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
            ..server::Limits::default()
        };
        let wire = server::Greeting::new(limits, alarm.now().as_millis());
        let greeting = Box::new(Greeting { wire, sign_in: None });
        Self {
            io,
            app,
            peer,
            phase: Phase::Greeting(greeting),
            unread: Vec::new(),
            unsent: Vec::new(),
            blocked_since: Tick::NEVER,
            alarm,
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Poll<()> {
        for _ in 0..TURNS {
            let now = self.alarm.now();
            let turn = match &self.phase {
                Phase::Greeting(_) => self.greet(cx, scratch, now),
                Phase::Device(_) => self.serve(cx, scratch, now),
                Phase::Refused { .. } => match self.say_goodbye(cx, scratch, now) {
                    Poll::Ready(()) => Ok(Turn::Again),
                    Poll::Pending => Ok(Turn::Wait),
                },
                Phase::Over => return Poll::Ready(()),
            };
            match turn {
                Ok(Turn::Again) => {}
                Ok(Turn::Wait) => {
                    let due = self.deadline();
                    self.alarm.wake_at(due, cx.waker());
                    return Poll::Pending;
                }
                Err(end) => self.end(cx, &mut scratch.out, &end),
            }
        }
        self.unsent.append(&mut scratch.out);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Before sign-in.
    fn greet(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch, now: Tick) -> Result<Turn, End> {
        let Phase::Greeting(greeting) = &mut self.phase else { return Ok(Turn::Again) };
        if let Some(sign_in) = &mut greeting.sign_in {
            return match sign_in.as_mut().poll(cx) {
                Poll::Pending => Ok(Turn::Wait),
                Poll::Ready(outcome) => self.admit(outcome, now, &mut scratch.out),
            };
        }
        let mut input = self.unread.as_slice();
        match greeting.wire.next(&mut input, &mut scratch.out) {
            Ok(Some(caller)) => {
                // The CONNECT stays in `unread` until it is answered.
                greeting.sign_in = Some(greeting::sign_in(&self.app, &self.peer, &caller.connect));
                return Ok(Turn::Again);
            }
            Ok(None) => {}
            Err(error) => return Err(self.not_mqtt(&error, &mut scratch.out, now)),
        }
        match self.read(cx, &mut scratch.input)? {
            Read::Some => Ok(Turn::Again),
            Read::Eof => Err(End::new(EndReason::Lost, "closed before CONNECT")),
            Read::Pending => {
                let Phase::Greeting(greeting) = &self.phase else { return Ok(Turn::Again) };
                let late = greeting.wire.check_deadline(now.as_millis());
                late.map(|()| Turn::Wait).map_err(|error| End::new(EndReason::Protocol, error))
            }
        }
    }

    /// A stranger that does not begin with CONNECT. One that speaks another version of MQTT is
    /// told so.
    fn not_mqtt(&mut self, error: &ProtocolError, out: &mut Vec<u8>, now: Tick) -> End {
        if !out.is_empty() {
            self.unsent.append(out);
            self.refuse(now);
        }
        End::new(EndReason::Protocol, error)
    }

    /// The hub has decided.
    fn admit(
        &mut self,
        outcome: Result<Session, Refusal>,
        now: Tick,
        out: &mut Vec<u8>,
    ) -> Result<Turn, End> {
        let Phase::Greeting(greeting) = &self.phase else { return Ok(Turn::Again) };
        let mut input = self.unread.as_slice();
        let Ok(Some(caller)) = greeting.wire.next(&mut input, out) else {
            return Err(End::new(EndReason::Failed, "the CONNECT is gone"));
        };
        match outcome {
            Ok(session) => {
                let wire = caller.accept(session.session_present(), now.as_millis(), out);
                let rest = input.to_vec();
                self.unread = rest;
                tracing::debug!(device = %session.state().id(), peer = %self.peer, "connected");
                self.peer.signed_in();
                self.peer.forget_chain();
                self.phase = Phase::Device(Device::new(&self.app, wire, session, now));
            }
            Err(refusal) => {
                caller.refuse(refusal, out);
                self.unread = Vec::new();
                self.unsent.append(out);
                self.refuse(now);
            }
        }
        Ok(Turn::Again)
    }

    fn refuse(&mut self, now: Tick) {
        self.phase = Phase::Refused { until: now.after(LINGER), shut: false };
    }

    /// After sign-in.
    fn serve(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch, now: Tick) -> Result<Turn, End> {
        let Phase::Device(device) = &mut self.phase else { return Ok(Turn::Again) };
        let out = &mut scratch.out;
        device.proceed(&self.app, cx, now, out)?;
        let room = self.app.config.limits.mqtt_output.saturating_sub(self.unsent.len());
        let more_news = device.take_news(&self.app, cx, out, room)?;
        let mut silent = false;
        while out.len() < WRITE_BYTES && self.reads() {
            let Phase::Device(device) = &mut self.phase else { return Ok(Turn::Again) };
            if !self.unread.is_empty() {
                let mut rest = self.unread.as_slice();
                device.handle(&self.app, &mut rest, cx, now, out)?;
                let used = self.unread.len() - rest.len();
                self.unread.drain(..used);
                if self.unread.len() * 4 < self.unread.capacity() {
                    self.unread.shrink_to_fit();
                }
                if used > 0 {
                    continue;
                }
            }
            match self.read_and_handle(cx, &mut scratch.input, out, now)? {
                Read::Some => {}
                Read::Eof => return Err(End::new(EndReason::Lost, "closed without DISCONNECT")),
                Read::Pending => {
                    silent = true;
                    break;
                }
            }
        }
        self.write(cx, out, now)?;
        let Phase::Device(device) = &self.phase else { return Ok(Turn::Again) };
        if silent {
            device.check_silence(now)?;
        }
        let more = more_news || !silent && self.reads();
        Ok(if more && self.unsent.is_empty() { Turn::Again } else { Turn::Wait })
    }

    /// Whether the client is listened to at the moment. TLS and WebSocket hold output of their own, so
    /// an empty `unsent` alone does not mean that the client has taken everything.
    fn reads(&self) -> bool {
        let taken = self.unsent.is_empty() && self.blocked_since == Tick::NEVER;
        taken && matches!(&self.phase, Phase::Device(device) if device.can_read())
    }

    /// Reads once. Packets that are whole are handled where they lie; only the rest is kept.
    fn read_and_handle(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        out: &mut Vec<u8>,
        now: Tick,
    ) -> Result<Read, End> {
        if !self.unread.is_empty() {
            return self.read(cx, buffer);
        }
        let mut read = ReadBuf::new(buffer);
        match Pin::new(&mut self.io).poll_read(cx, &mut read) {
            Poll::Pending => return Ok(Read::Pending),
            Poll::Ready(result) => result.map_err(|error| End::new(EndReason::Lost, error))?,
        }
        let mut rest = read.filled();
        if rest.is_empty() {
            return Ok(Read::Eof);
        }
        if let Phase::Device(device) = &mut self.phase {
            device.handle(&self.app, &mut rest, cx, now, out)?;
        }
        if !rest.is_empty() {
            self.unread = rest.to_vec();
        }
        Ok(Read::Some)
    }

    /// Reads once, behind what is there.
    fn read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Result<Read, End> {
        let mut read = ReadBuf::new(buffer);
        match Pin::new(&mut self.io).poll_read(cx, &mut read) {
            Poll::Pending => Ok(Read::Pending),
            Poll::Ready(Err(error)) => Err(End::new(EndReason::Lost, error)),
            Poll::Ready(Ok(())) if read.filled().is_empty() => Ok(Read::Eof),
            Poll::Ready(Ok(())) => {
                self.unread.extend_from_slice(read.filled());
                Ok(Read::Some)
            }
        }
    }

    /// Writes what there is, keeping only what the client does not take.
    fn write(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>, now: Tick) -> Result<(), End> {
        match self.poll_write(cx, out) {
            Poll::Ready(Ok(())) => {
                self.blocked_since = Tick::NEVER;
                Ok(())
            }
            Poll::Ready(Err(error)) => Err(End::new(EndReason::Lost, error)),
            Poll::Pending => {
                if self.blocked_since == Tick::NEVER {
                    self.blocked_since = now;
                }
                if now >= self.blocked_since.after(self.app.config.limits.write_timeout) {
                    self.app.mqtt.write_timeouts.fetch_add(1, Ordering::Relaxed);
                    return Err(End::new(EndReason::SlowConsumer, "did not read what it was sent"));
                }
                Ok(())
            }
        }
    }

    /// Ready once everything has left this process.
    fn poll_write(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<io::Result<()>> {
        if !self.unsent.is_empty() {
            self.unsent.append(out);
        }
        let held = !self.unsent.is_empty();
        let pending = if held { &mut self.unsent } else { &mut *out };
        let mut sent = 0;
        let mut blocked = false;
        while sent < pending.len() {
            match Pin::new(&mut self.io).poll_write(cx, &pending[sent..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => sent += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    blocked = true;
                    break;
                }
            }
        }
        if sent > 0 {
            // Progress: the client reads, however slowly.
            self.blocked_since = Tick::NEVER;
        }
        pending.drain(..sent);
        if held && pending.is_empty() {
            self.unsent = Vec::new();
        } else if !held && !out.is_empty() {
            self.unsent = out.as_slice().into();
            out.clear();
        }
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        if blocked {
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Lets a refused client read the answer: closing while it still sends would destroy it.
    fn say_goodbye(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch, now: Tick) -> Poll<()> {
        let Phase::Refused { until, shut } = &mut self.phase else { return Poll::Ready(()) };
        let until = *until;
        if !*shut && now < until {
            scratch.out.clear();
            let written = match ready!(self.poll_write(cx, &mut scratch.out)) {
                Ok(()) => ready!(Pin::new(&mut self.io).poll_shutdown(cx)),
                Err(error) => Err(error),
            };
            if written.is_err() {
                self.phase = Phase::Over;
                return Poll::Ready(());
            }
            if let Phase::Refused { shut, .. } = &mut self.phase {
                *shut = true;
            }
        }
        if now < until {
            loop {
                let mut read = ReadBuf::new(&mut scratch.input);
                match ready!(Pin::new(&mut self.io).poll_read(cx, &mut read)) {
                    Ok(()) if !read.filled().is_empty() => {}
                    _ => break,
                }
            }
        }
        self.phase = Phase::Over;
        Poll::Ready(())
    }

    /// When something is due if nothing happens before.
    fn deadline(&self) -> Tick {
        let due = match &self.phase {
            Phase::Greeting(greeting) if greeting.sign_in.is_none() => {
                Tick::from_millis(greeting.wire.deadline())
            }
            Phase::Greeting(_) | Phase::Over => Tick::NEVER,
            Phase::Device(device) => device.deadline(self.reads()),
            Phase::Refused { until, .. } => *until,
        };
        match self.blocked_since {
            Tick::NEVER => due,
            since => due.min(since.after(self.app.config.limits.write_timeout)),
        }
    }

    /// Ends the connection; what can be written at once still is.
    fn end(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>, end: &End) {
        if end.reason == EndReason::Protocol {
            self.app.mqtt.violations.fetch_add(1, Ordering::Relaxed);
        }
        if let Phase::Refused { .. } = self.phase {
            tracing::debug!(peer = %self.peer, detail = end.detail, "refused");
            return;
        }
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Device(device) => {
                let (reason, detail) = (end.reason.name(), &end.detail);
                match end.reason {
                    // What the operator of the device, or of the hub, has to put right.
                    EndReason::Protocol | EndReason::SlowConsumer | EndReason::Failed => {
                        tracing::info!(device = %device.id(), peer = %self.peer, reason, detail, "disconnected");
                    }
                    _ => {
                        tracing::debug!(device = %device.id(), peer = %self.peer, reason, detail, "disconnected")
                    }
                }
                device.leave(&self.app, end.reason);
            }
            _ => tracing::debug!(peer = %self.peer, detail = end.detail, "closed before sign-in"),
        }
        if let Poll::Ready(Ok(())) = self.poll_write(cx, out) {
            let _ = Pin::new(&mut self.io).poll_shutdown(cx);
        }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Future for Connection<Io> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Scratch::lend(|scratch| self.drive(cx, scratch))
    }
}
