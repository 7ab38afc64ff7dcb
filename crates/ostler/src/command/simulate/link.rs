//! One device's live connection: bytes to the device's ears, its commands to bytes.
//!
//! A method call costs one wake-up, one read and one write. Reading, decoding and encoding happen in buffers that all
//! connections of a thread share; a connection keeps bytes of its own only while a packet is incomplete or the hub does
//! not read.
//!
//! Must not know: how connections are made, when to make the next one.
//!
//! Invariant: no more than [`MAX_UNSENT`] bytes wait for the hub.
//! Invariant: the timer is armed for the earliest deadline or earlier, never later.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ostler_core::record::Interest;
use ostler_wire::mqtt::client::{Event, Session};
use ostler_wire::mqtt::packet::{QoS, SubscribeOutcome};
use ostler_wire::topic::{filter, DeviceRequest, HubMessage};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Sleep;

use super::counters::{Cause, Counters};
use super::device::{Command, Device, Now};
use super::door::Stream;
use super::fleet::Shard;

/// Read at once. A flood of calls to one device is taken in pieces of this size.
const READ_BYTES: usize = 64 << 10;
const MAX_UNSENT: usize = 256 << 10;
/// How long the hub may take to answer the SUBSCRIBE, in ms.
const SUBSCRIBE_PATIENCE: u64 = 30_000;
const GOODBYE_PATIENCE: Duration = Duration::from_secs(1);
const NEVER: u64 = u64::MAX;

/// Why a connection is over.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The device leaves.
    Leave { rude: bool, down_ms: u64 },
    /// The device falls silent.
    Vanish { gone_ms: u64 },
    /// Something broke.
    Lost(Cause),
}

/// A connection that is signed in.
pub struct Link {
    stream: Stream,
    session: Session,
    /// The beginning of a packet.
    rest: Vec<u8>,
    unsent: Vec<u8>,
    timer: Pin<Box<Sleep>>,
    /// When the timer fires, in ms.
    armed: u64,
    /// When the hub must have answered the SUBSCRIBE; `None` once it has.
    subscribe_by: Option<u64>,
    requests: u32,
}

/// What one wake-up works with; shared by all connections of a thread.
struct Bench {
    input: Box<[u8]>,
    output: Vec<u8>,
    commands: Vec<Command>,
}

thread_local! {
    static BENCH: RefCell<Bench> = RefCell::new(Bench {
        input: vec![0; READ_BYTES].into(),
        output: Vec::with_capacity(READ_BYTES),
        commands: Vec::new(),
    });
}

impl Link {
    /// Takes over a signed-in connection and asks for what devices listen to.
    pub fn new(stream: Stream, mut session: Session, device: &Device, shard: &Shard) -> Self {
        let now = shard.now().ms;
        let filters: Vec<String> = [Interest::TwinAnswers, Interest::DesiredChanges, Interest::Methods]
            .into_iter()
            .filter_map(|interest| filter(interest, device.id()))
            .collect();
        let filters: Vec<(&str, QoS)> = filters.iter().map(|text| (text.as_str(), QoS::AtMostOnce)).collect();
        let mut unsent = Vec::new();
        // Cannot fail: the filters are short, and nothing else is under way. If it did, no SUBACK would come.
        let _ = session.subscribe(&filters, &mut unsent);
        let subscribe_by = now + SUBSCRIBE_PATIENCE;
        Self {
            stream,
            session,
            rest: Vec::new(),
            unsent,
            timer: Box::pin(tokio::time::sleep_until(shard.instant(subscribe_by))),
            armed: subscribe_by,
            subscribe_by: Some(subscribe_by),
            requests: 0,
        }
    }

    /// Whether the hub has answered the SUBSCRIBE.
    pub fn is_subscribed(&self) -> bool {
        self.subscribe_by.is_none()
    }

    /// Takes part in the conversation as far as it goes without waiting.
    pub fn poll(&mut self, device: &mut Device, shard: &Shard, cx: &mut Context<'_>) -> Poll<End> {
        BENCH.with_borrow_mut(|bench| {
            if !self.unsent.is_empty() {
                bench.output.extend_from_slice(&self.unsent);
                self.unsent.clear();
            }
            let mut end = self.poll_input(device, shard, bench, cx);
            loop {
                if end.is_none() {
                    end = self.pass_time(device, shard, bench);
                }
                if let Err(cause) = self.write(&mut bench.output, cx) {
                    end.get_or_insert(End::Lost(cause));
                }
                if !bench.output.is_empty() {
                    self.unsent.extend_from_slice(&bench.output);
                    bench.output.clear();
                    if self.unsent.len() > MAX_UNSENT {
                        end.get_or_insert(End::Lost(Cause::Backlog));
                    }
                }
                if let Some(end) = end {
                    return Poll::Ready(end);
                }
                if self.poll_timer(device, shard, cx).is_pending() {
                    return Poll::Pending;
                }
                bench.output.append(&mut self.unsent);
            }
        })
    }

    /// Reads until nothing is left.
    fn poll_input(
        &mut self,
        device: &mut Device,
        shard: &Shard,
        bench: &mut Bench,
        cx: &mut Context<'_>,
    ) -> Option<End> {
        loop {
            let Bench { input, output, commands } = &mut *bench;
            let mut buffer = ReadBuf::new(input);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return None,
                Poll::Ready(Err(_)) => return Some(End::Lost(Cause::Reset)),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                    return Some(End::Lost(Cause::ClosedByHub))
                }
                Poll::Ready(Ok(())) => {}
            }
            let joined;
            let mut bytes = buffer.filled();
            if !self.rest.is_empty() {
                self.rest.extend_from_slice(bytes);
                joined = std::mem::take(&mut self.rest);
                bytes = &joined;
            }
            let end = self.hear_all(&mut bytes, device, shard, commands, output);
            self.rest.extend_from_slice(bytes);
            if end.is_some() {
                return end;
            }
            if output.len() > MAX_UNSENT {
                // First the hub has to take what there is; then reading goes on.
                cx.waker().wake_by_ref();
                return None;
            }
        }
    }

    fn hear_all(
        &mut self,
        bytes: &mut &[u8],
        device: &mut Device,
        shard: &Shard,
        commands: &mut Vec<Command>,
        output: &mut Vec<u8>,
    ) -> Option<End> {
        let now = shard.now();
        loop {
            match self.session.next(bytes) {
                Err(_) => return Some(End::Lost(Cause::Protocol)),
                Ok(None) => return None,
                Ok(Some(Event::Message(message))) => {
                    hear(message.topic, message.payload, device, shard, now, commands);
                    if let Some(ticket) = message.ticket {
                        self.session.ack(ticket, output);
                    }
                }
                Ok(Some(Event::Subscribed(answer))) => {
                    if answer.outcomes().any(|outcome| outcome == SubscribeOutcome::Refused) {
                        return Some(End::Lost(Cause::NotSubscribed));
                    }
                    self.subscribe_by = None;
                    shard.welcome(!device.is_introduced());
                    device.handle_connected(now, commands);
                }
                Ok(Some(Event::Acked(_) | Event::Unsubscribed(_))) => {}
            }
            if let Some(end) = self.carry_out(device, shard, commands, output) {
                return Some(end);
            }
        }
    }

    /// Turns commands into packets, up to one that ends the connection.
    fn carry_out(
        &mut self,
        device: &Device,
        shard: &Shard,
        commands: &mut Vec<Command>,
        output: &mut Vec<u8>,
    ) -> Option<End> {
        let mut end = None;
        for command in commands.drain(..) {
            let sent = match command {
                Command::Answer { rid, status, payload } => {
                    shard.counters.answer(status);
                    let answer = DeviceRequest::MethodResponse { status, rid: &rid };
                    self.publish(answer, &payload, device, output)
                }
                Command::Report(payload) => {
                    Counters::add(&shard.counters.reports);
                    let rid = self.rid('r');
                    let patch = DeviceRequest::ReportedPatch { rid: Some(&rid), version: None };
                    self.publish(patch, &payload, device, output)
                }
                Command::GetTwin => {
                    let rid = self.rid('g');
                    self.publish(DeviceRequest::TwinGet { rid: &rid }, b"", device, output)
                }
                Command::Leave { rude, down_ms } => {
                    end.get_or_insert(End::Leave { rude, down_ms });
                    true
                }
                Command::Vanish { gone_ms } => {
                    end.get_or_insert(End::Vanish { gone_ms });
                    true
                }
            };
            if !sent {
                end.get_or_insert(End::Lost(Cause::Protocol));
            }
        }
        end
    }

    /// False if it cannot be expressed in MQTT.
    fn publish(
        &mut self,
        request: DeviceRequest<'_>,
        payload: &[u8],
        device: &Device,
        output: &mut Vec<u8>,
    ) -> bool {
        let topic = request.of(device.id());
        self.session.publish(&topic, payload, output).is_ok()
    }

    /// Does what is due.
    fn pass_time(&mut self, device: &mut Device, shard: &Shard, bench: &mut Bench) -> Option<End> {
        let now = shard.now();
        if self.subscribe_by.is_some_and(|by| by <= now.ms) {
            return Some(End::Lost(Cause::Timeout));
        }
        if self.session.handle_timeout(now.ms, &mut bench.output).is_err() {
            return Some(End::Lost(Cause::NoPong));
        }
        if self.is_subscribed() && device.deadline().is_some_and(|due| due <= now.ms) {
            device.handle_timeout(now, &mut bench.commands);
            let Bench { output, commands, .. } = bench;
            return self.carry_out(device, shard, commands, output);
        }
        None
    }

    /// Ready when something is due.
    fn poll_timer(&mut self, device: &Device, shard: &Shard, cx: &mut Context<'_>) -> Poll<()> {
        let own = device.deadline().filter(|_| self.is_subscribed());
        let next = [own, self.session.deadline(), self.subscribe_by].into_iter().flatten().min();
        let next = next.unwrap_or(NEVER);
        if next < self.armed || self.timer.is_elapsed() {
            self.timer.as_mut().reset(shard.instant(next));
            self.armed = next;
        }
        std::future::Future::poll(self.timer.as_mut(), cx)
    }

    fn write(&mut self, output: &mut Vec<u8>, cx: &mut Context<'_>) -> Result<(), Cause> {
        let mut written = 0;
        while written < output.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &output[written..]) {
                Poll::Pending => break,
                Poll::Ready(Ok(0) | Err(_)) => return Err(Cause::Reset),
                Poll::Ready(Ok(bytes)) => written += bytes,
            }
        }
        output.drain(..written);
        // TLS may hold records that did not fit into the socket.
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(Err(_)) => Err(Cause::Reset),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// Says goodbye, and waits a moment until it is said.
    pub async fn leave(self) {
        let Self { mut stream, session, mut unsent, .. } = self;
        session.disconnect(&mut unsent);
        let goodbye = async {
            stream.write_all(&unsent).await?;
            stream.shutdown().await
        };
        let said: Result<io::Result<()>, _> = tokio::time::timeout(GOODBYE_PATIENCE, goodbye).await;
        // The hub may have gone first.
        drop(said);
    }

    fn rid(&mut self, kind: char) -> String {
        self.requests = self.requests.wrapping_add(1);
        format!("{kind}{}", self.requests)
    }
}

/// What the hub says, told to the device.
fn hear(
    topic: &str,
    payload: &[u8],
    device: &mut Device,
    shard: &Shard,
    now: Now,
    commands: &mut Vec<Command>,
) {
    let Ok(message) = HubMessage::parse(topic, device.id()) else {
        return shard.counters.error(Cause::Protocol);
    };
    match message {
        HubMessage::MethodRequest { method, rid } => {
            Counters::add(&shard.counters.calls);
            device.handle_method(method, rid, payload, now, commands);
        }
        HubMessage::DesiredChanged { .. } => {
            Counters::add(&shard.counters.desired);
            device.handle_desired(payload, now, commands);
        }
        HubMessage::TwinResponse { status, rid, .. } if rid.starts_with('g') => {
            if status == 200 {
                device.handle_twin(payload, now, commands);
            }
        }
        HubMessage::TwinResponse { status, .. } => {
            if !(200..300).contains(&status) {
                Counters::add(&shard.counters.reports_refused);
            }
        }
        // Messages are taken and not looked at.
        HubMessage::CloudToDevice { .. } | HubMessage::ModuleInput { .. } => {}
    }
}
