//! A device that has signed in: its packets become hub calls, the hub's news become packets.
//!
//! Requests that the hub cannot answer at once (a durable write) run one at a time, and nothing
//! further is read meanwhile: that keeps a device's changes in its order and lets it feel the
//! load.
//!
//! It must not know sockets; [`super::connection`] moves the bytes.
//!
//! Invariant: a PUBACK leaves only when what it acknowledges is durable, and in order.
//! Invariant: what waits here for one device is bounded: one request, [`MAX_DELAYED`] answers.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ostler_core::id::EntityId;
use ostler_core::record::{Delivery, Interest};
use ostler_hub::messages::CloudMessage;
use ostler_hub::session::{EndReason, News, Session};
use ostler_hub::Error;
use ostler_wire::mqtt::packet::{PacketId, QoS, Subscribe, SubscribeOutcome, Unsubscribe};
use ostler_wire::mqtt::server::{self, Event};
use ostler_wire::mqtt::{Received, Ticket};
use ostler_wire::topic::{parse_filter, DeviceRequest};

use super::answer::{self, TwinAnswer};
use super::telemetry;
use crate::app::App;
use crate::timers::Tick;

/// Twin errors that may wait to be told.
const MAX_DELAYED: usize = 16;
/// How long a twin error is held back: one SDK asks again at once, for ever (device §4.3).
const ERROR_DELAY: Duration = Duration::from_secs(1);

/// Why a connection ends.
#[derive(Debug)]
pub(super) struct End {
    pub(super) reason: EndReason,
    /// For the log.
    pub(super) detail: String,
}

impl End {
    pub(super) fn new(reason: EndReason, detail: impl ToString) -> Self {
        Self { reason, detail: detail.to_string() }
    }
}

/// A signed-in connection.
pub(super) struct Device {
    wire: server::Session,
    session: Session,
    request: Option<Pin<Box<dyn Future<Output = Done> + Send>>>,
    /// Messages that the client has not acknowledged, by the id under which they were sent.
    unacked: Vec<(PacketId, u64)>,
    delayed: Option<Box<Delayed>>,
    expires: Tick,
    pace: Pace,
}

/// Encoded packets that are held back, and until when.
type Delayed = VecDeque<(Tick, Vec<u8>)>;

/// A request that the hub has answered.
struct Done {
    ticket: Option<Ticket>,
    outcome: Outcome,
}

enum Outcome {
    Twin { rid: Option<Box<str>>, result: Result<TwinAnswer, Error> },
    Subscribed { id: PacketId, outcomes: Vec<SubscribeOutcome>, result: Result<(), Error> },
    Unsubscribed { id: PacketId, result: Result<(), Error> },
}

impl Device {
    pub(super) fn new(app: &App, wire: server::Session, session: Session, now: Tick) -> Self {
        let expires = session.state().grant().expires.map_or(Tick::NEVER, |expires| {
            let ticks = expires.ticks().saturating_sub(app.hub.now().ticks()).max(0);
            now.after(Duration::from_nanos(u64::try_from(ticks).unwrap_or(0).saturating_mul(100)))
        });
        let pace = Pace::new(app.config.limits.mqtt_packet_rate, now);
        Self { wire, session, request: None, unacked: Vec::new(), delayed: None, expires, pace }
    }

    pub(super) fn id(&self) -> &EntityId {
        self.session.state().id()
    }

    /// Whether packets may be read and handled now.
    pub(super) fn can_read(&self) -> bool {
        self.request.is_none()
            && self.pace.left > 0
            && self.delayed.as_ref().is_none_or(|delayed| delayed.len() < MAX_DELAYED)
            && !self.wire.is_paused()
    }

    /// Carries on with what was begun: the open request, answers held back, the packet rate.
    pub(super) fn proceed(
        &mut self,
        app: &App,
        cx: &mut Context<'_>,
        now: Tick,
        out: &mut Vec<u8>,
    ) -> Result<(), End> {
        if now >= self.expires {
            return Err(End::new(EndReason::TokenExpired, "the token ran out"));
        }
        self.pace.refill(now);
        self.release_delayed(now, out);
        if let Some(request) = &mut self.request {
            if let Poll::Ready(done) = request.as_mut().poll(cx) {
                self.request = None;
                self.finish(app, done, now, out)?;
            }
        }
        Ok(())
    }

    /// Takes the hub's news until `out` holds `limit` bytes; whether there may be more.
    pub(super) fn take_news(
        &mut self,
        app: &App,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Result<bool, End> {
        while out.len() < limit {
            match self.session.poll_news(cx) {
                Poll::Ready(Ok(News::Message(message))) => self.deliver(app, &message, out)?,
                Poll::Ready(Ok(news)) => {
                    let id = self.session.state().id();
                    answer::news(&mut self.wire, id, &news, out);
                }
                Poll::Ready(Err(reason)) => return Err(End::new(reason, "asked to end")),
                Poll::Pending => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Sends a message as the client subscribed to it. Without an acknowledgement to wait for, sent is confirmed
    /// (device §3.4).
    fn deliver(&mut self, app: &App, message: &CloudMessage, out: &mut Vec<u8>) -> Result<(), End> {
        let state = self.session.state();
        match state.delivery(Interest::Messages) {
            Some(Delivery::AtLeastOnce) => {
                let id = answer::message(&mut self.wire, state.id(), message, out)
                    .map_err(|error| End::new(EndReason::Failed, error))?;
                self.unacked.push((id, message.sequence));
            }
            Some(Delivery::AtMostOnce) => {
                answer::message_once(&mut self.wire, state.id(), message, out);
                app.hub.confirm_message(state, message.sequence);
            }
            // It unsubscribed meanwhile: the message waits until it subscribes again.
            None => app.hub.give_back_message(state, message.sequence),
        }
        Ok(())
    }

    fn acked(&mut self, app: &App, id: PacketId) {
        if let Some(place) = self.unacked.iter().position(|(sent, _)| *sent == id) {
            let (_, sequence) = self.unacked.remove(place);
            app.hub.confirm_message(self.session.state(), sequence);
        }
        if self.unacked.is_empty() {
            // An idle connection holds no buffer.
            self.unacked = Vec::new();
        }
    }

    /// Handles whole packets at the front of `input`, as long as [`can_read`](Self::can_read).
    pub(super) fn handle(
        &mut self,
        app: &Arc<App>,
        input: &mut &[u8],
        cx: &mut Context<'_>,
        now: Tick,
        out: &mut Vec<u8>,
    ) -> Result<(), End> {
        let mut packets = 0;
        let result = loop {
            if !self.can_read() {
                break Ok(());
            }
            match self.wire.next(input, now.as_millis(), out) {
                Ok(None) => break Ok(()),
                Ok(Some(event)) => {
                    packets += 1;
                    self.pace.spend();
                    if let Err(end) = self.handle_event(app, event, cx, now, out) {
                        break Err(end);
                    }
                }
                Err(error) => break Err(End::new(EndReason::Protocol, error)),
            }
        };
        app.mqtt.packets.fetch_add(packets, Ordering::Relaxed);
        if self.pace.left == 0 {
            app.mqtt.throttled.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    fn handle_event(
        &mut self,
        app: &Arc<App>,
        event: Event<'_>,
        cx: &mut Context<'_>,
        now: Tick,
        out: &mut Vec<u8>,
    ) -> Result<(), End> {
        match event {
            Event::Publish(message) => self.handle_message(app, message, cx, now, out),
            Event::Acked(id) => {
                self.acked(app, id);
                Ok(())
            }
            Event::Subscribe(subscribe) => {
                let done = self.subscribe(app, &subscribe);
                self.begin(app, done, cx, now, out)
            }
            Event::Unsubscribe(unsubscribe) => {
                let done = self.unsubscribe(app, &unsubscribe);
                self.begin(app, done, cx, now, out)
            }
            Event::Disconnect => Err(End::new(EndReason::Client, "DISCONNECT")),
        }
    }

    fn handle_message(
        &mut self,
        app: &Arc<App>,
        message: Received<'_>,
        cx: &mut Context<'_>,
        now: Tick,
        out: &mut Vec<u8>,
    ) -> Result<(), End> {
        let Received { topic, payload, retain, ticket, .. } = message;
        let state = self.session.state();
        let request = DeviceRequest::parse(topic, state.id())
            .map_err(|error| End::new(EndReason::Protocol, format!("{error}: {}", answer::shown(topic))))?;
        match request {
            DeviceRequest::Telemetry { bag } => {
                if !telemetry::fits(bag, payload) {
                    return Err(End::new(EndReason::Protocol, "a message larger than 256 KiB"));
                }
                app.hub.telemetry(state, payload.len(), || telemetry::describe(bag, payload, retain));
                self.ack(ticket, out);
                Ok(())
            }
            DeviceRequest::MethodResponse { status, rid } => {
                if let Some(call) = answer::parse_request_id(rid) {
                    app.hub.answer(state, call, status, payload);
                }
                self.ack(ticket, out);
                Ok(())
            }
            DeviceRequest::TwinGet { rid } => {
                let (app_, state, rid) = (app.clone(), state.clone(), Some(rid.into()));
                let done = async move {
                    let result = app_.hub.device_twin(&state).await.map(TwinAnswer::Twin);
                    Done { ticket, outcome: Outcome::Twin { rid, result } }
                };
                self.begin(app, done, cx, now, out)
            }
            DeviceRequest::ReportedPatch { rid, version } => {
                let (app_, state, rid) = (app.clone(), state.clone(), rid.map(Into::into));
                let patch: Box<[u8]> = payload.into();
                let done = async move {
                    let result = app_.hub.report(&state, &patch, version).await.map(TwinAnswer::Reported);
                    Done { ticket, outcome: Outcome::Twin { rid, result } }
                };
                self.begin(app, done, cx, now, out)
            }
        }
    }

    fn subscribe(
        &self,
        app: &Arc<App>,
        subscribe: &Subscribe<'_>,
    ) -> impl Future<Output = Done> + Send + 'static {
        let (id, state) = (subscribe.id, self.session.state().clone());
        let mut outcomes = Vec::with_capacity(subscribe.len());
        let mut wishes = Vec::with_capacity(subscribe.len());
        for (filter, wanted) in subscribe.filters() {
            let granted = wanted.min(QoS::AtLeastOnce);
            outcomes.push(match parse_filter(filter, state.id()) {
                Some(interest) => {
                    wishes.push((interest, Some(delivery(granted))));
                    SubscribeOutcome::Granted(granted)
                }
                None => {
                    tracing::debug!(device = %state.id(), filter = &*answer::shown(filter), "subscription refused");
                    SubscribeOutcome::Refused
                }
            });
        }
        let app = app.clone();
        async move {
            let result = app.hub.subscribe(&state, &wishes).await;
            Done { ticket: None, outcome: Outcome::Subscribed { id, outcomes, result } }
        }
    }

    fn unsubscribe(
        &self,
        app: &Arc<App>,
        unsubscribe: &Unsubscribe<'_>,
    ) -> impl Future<Output = Done> + Send + 'static {
        let (id, state) = (unsubscribe.id, self.session.state().clone());
        let wishes: Vec<_> = unsubscribe
            .filters()
            .filter_map(|filter| parse_filter(filter, state.id()))
            .map(|i| (i, None))
            .collect();
        let app = app.clone();
        async move {
            let result = app.hub.subscribe(&state, &wishes).await;
            Done { ticket: None, outcome: Outcome::Unsubscribed { id, result } }
        }
    }

    /// Starts a request; one that is answered at once leaves nothing behind.
    fn begin(
        &mut self,
        app: &App,
        request: impl Future<Output = Done> + Send + 'static,
        cx: &mut Context<'_>,
        now: Tick,
        out: &mut Vec<u8>,
    ) -> Result<(), End> {
        let mut request: Pin<Box<dyn Future<Output = Done> + Send>> = Box::pin(request);
        match request.as_mut().poll(cx) {
            Poll::Ready(done) => self.finish(app, done, now, out),
            Poll::Pending => {
                self.request = Some(request);
                Ok(())
            }
        }
    }

    fn finish(&mut self, app: &App, done: Done, now: Tick, out: &mut Vec<u8>) -> Result<(), End> {
        match done.outcome {
            Outcome::Twin { rid, result } => self.finish_twin(app, done.ticket, rid, result, now, out),
            // A client that is told of a refusal carries on as if it had been granted (device §2.9):
            // a fault of ours must end the connection, then it comes again.
            Outcome::Subscribed { result: Err(error), .. }
            | Outcome::Unsubscribed { result: Err(error), .. } => Err(End::new(EndReason::Failed, error)),
            Outcome::Subscribed { id, outcomes, .. } => {
                self.wire.sub_ack(id, &outcomes, out).map_err(|error| End::new(EndReason::Protocol, error))
            }
            Outcome::Unsubscribed { id, .. } => {
                self.wire.unsub_ack(id, out);
                Ok(())
            }
        }
    }

    fn finish_twin(
        &mut self,
        app: &App,
        ticket: Option<Ticket>,
        rid: Option<Box<str>>,
        result: Result<TwinAnswer, Error>,
        now: Tick,
        out: &mut Vec<u8>,
    ) -> Result<(), End> {
        let state = self.session.state();
        // Without a request id or a subscription there is nobody to tell (device §4.1).
        let rid = rid.filter(|_| state.delivery(Interest::TwinAnswers).is_some());
        if let (None, Err(error @ (Error::Store(_) | Error::Contended))) = (&rid, &result) {
            // Acknowledged is durable: what is lost and cannot be told must not be acknowledged.
            return Err(End::new(EndReason::Failed, error));
        }
        self.ack(ticket, out);
        let Some(rid) = rid else { return Ok(()) };
        let id = self.session.state().id();
        match result {
            Ok(answer) => answer::twin(&mut self.wire, id, &rid, &answer, out),
            Err(error) => {
                let mut packet = Vec::new();
                answer::twin_error(&mut self.wire, id, &rid, &error, app.hub.now(), &mut packet);
                self.delayed.get_or_insert_default().push_back((now.after(ERROR_DELAY), packet));
            }
        }
        Ok(())
    }

    fn release_delayed(&mut self, now: Tick, out: &mut Vec<u8>) {
        let Some(delayed) = &mut self.delayed else { return };
        while delayed.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, packet)) = delayed.pop_front() {
                out.extend_from_slice(&packet);
            }
        }
        if delayed.is_empty() {
            self.delayed = None;
        }
    }

    fn ack(&mut self, ticket: Option<Ticket>, out: &mut Vec<u8>) {
        if let Some(ticket) = ticket {
            self.wire.ack(ticket, out);
        }
    }

    /// The client has been given the chance to speak and did not: has it been silent too long?
    pub(super) fn check_silence(&self, now: Tick) -> Result<(), End> {
        self.wire.check_deadline(now.as_millis()).map_err(|error| End::new(EndReason::KeepAlive, error))
    }

    /// When something is due. While reading is held back the client's silence is not its own.
    pub(super) fn deadline(&self, reads: bool) -> Tick {
        let mut due = self.expires;
        if let Some((at, _)) = self.delayed.as_ref().and_then(|delayed| delayed.front()) {
            due = due.min(*at);
        }
        if self.pace.left == 0 {
            due = due.min(self.pace.at.next());
        }
        match self.wire.deadline().filter(|_| reads) {
            Some(silent) => due.min(Tick::from_millis(silent)),
            None => due,
        }
    }

    /// Takes the device offline, publishing its will unless it said goodbye (device §2.7).
    pub(super) fn leave(mut self, app: &App, reason: EndReason) {
        if let Some(will) = self.wire.take_will().filter(|_| reason != EndReason::Client) {
            let state = self.session.state();
            if let Ok(DeviceRequest::Telemetry { bag }) = DeviceRequest::parse(&will.topic, state.id()) {
                app.hub.telemetry(state, will.payload.len(), || telemetry::describe_will(bag, &will));
            }
        }
        self.session.end(reason);
    }
}

fn delivery(qos: QoS) -> Delivery {
    match qos {
        QoS::AtMostOnce => Delivery::AtMostOnce,
        QoS::AtLeastOnce | QoS::ExactlyOnce => Delivery::AtLeastOnce,
    }
}

/// How many packets a client may still send in this tick; a second's worth can be saved up.
struct Pace {
    rate: u32,
    left: u32,
    at: Tick,
}

impl Pace {
    fn new(rate: Option<u32>, now: Tick) -> Self {
        let rate = rate.unwrap_or(0);
        Self { rate, left: rate.max(1), at: now }
    }

    fn spend(&mut self) {
        if self.rate > 0 {
            self.left -= 1;
        }
    }

    fn refill(&mut self, now: Tick) {
        if self.rate > 0 && now > self.at {
            let earned = u64::from(self.rate) * (now.as_millis() - self.at.as_millis()) / 1000;
            // A rate below ten a second earns less than one packet a tick: wait for a whole one.
            if earned > 0 {
                self.left = u32::try_from(u64::from(self.left) + earned).unwrap_or(u32::MAX).min(self.rate);
                self.at = now;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_its_rate_and_a_second_of_savings() {
        let start = Tick::from_millis(0);
        let mut pace = Pace::new(Some(50), start);
        (0..50).for_each(|_| pace.spend());
        assert_eq!(pace.left, 0);
        pace.refill(Tick::from_millis(100));
        assert_eq!(pace.left, 5);
        pace.refill(Tick::from_millis(60_000));
        assert_eq!(pace.left, 50);
    }

    #[test]
    fn a_slow_rate_still_earns() {
        let mut pace = Pace::new(Some(3), Tick::from_millis(0));
        (0..3).for_each(|_| pace.spend());
        for millis in (100..=300).step_by(100) {
            pace.refill(Tick::from_millis(millis));
        }
        assert_eq!(pace.left, 0);
        pace.refill(Tick::from_millis(400));
        assert_eq!(pace.left, 1);
    }

    #[test]
    fn no_rate_is_no_limit() {
        let mut pace = Pace::new(None, Tick::from_millis(0));
        (0..1000).for_each(|_| pace.spend());
        assert!(pace.left > 0);
    }
}
