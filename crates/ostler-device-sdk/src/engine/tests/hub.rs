//! A strict hub in memory: what a client may not do fails the test.
//!
//! Built from the server's end of the wire crate, so that what it takes is what a real hub takes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ostler_core::id::EntityId;
use ostler_core::record::Interest as Subscription;
use ostler_wire::mqtt::packet::{PacketId, QoS, Refusal, SubscribeOutcome};
use ostler_wire::mqtt::server::{Event, Greeting, Limits, Session};
use ostler_wire::mqtt::{Attempt, Received};
use ostler_wire::topic::{parse_filter, Bag, DeviceRequest, HubMessage};
use ostler_wire::username;

/// What the hub will do next instead of what is right.
#[derive(Debug, Default)]
pub struct Mood {
    /// How to answer the next CONNECTs.
    pub refusals: VecDeque<Refusal>,
    /// How to answer the next twin requests: with this status, or not at all. They are not carried out if the status is
    /// an error.
    pub twin: VecDeque<Option<u16>>,
    /// Filters that are refused.
    pub unsubscribable: Vec<Subscription>,
    /// Twin answers, methods and desired properties go out at quality of service 1, and twice.
    pub doubled: bool,
    /// Neither reads nor writes until then.
    pub silent_until: u64,
    /// Changes of desired properties that are not told.
    pub lost_notices: u32,
}

pub struct Hub {
    entity: EntityId,
    pub mood: Mood,
    /// Filters of the persistent session, and whether there is one.
    stored: BTreeSet<&'static str>,
    has_session: bool,
    pub desired: BTreeMap<String, u64>,
    pub desired_version: u64,
    pub reported: BTreeMap<String, u64>,
    pub reported_version: u64,
    /// Bodies in the order in which they came first.
    pub telemetry: Vec<Vec<u8>>,
    seen: BTreeSet<Vec<u8>>,
    /// Cloud-to-device messages that are not acknowledged.
    pub queue: VecDeque<(u64, bool)>,
    pub calls: BTreeMap<String, Vec<(i32, Vec<u8>)>>,
    pub connects: u32,
    connection: Option<Connection>,
}

struct Connection {
    session: Option<Session>,
    greeting: Greeting,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Subscriptions that the client asked for on this very connection.
    fresh: BTreeSet<&'static str>,
    under_way: Vec<(PacketId, u64)>,
}

fn name(subscription: Subscription) -> &'static str {
    match subscription {
        Subscription::Methods => "methods",
        Subscription::TwinAnswers => "answers",
        Subscription::DesiredChanges => "desired",
        Subscription::Messages => "messages",
        Subscription::Inputs => "inputs",
    }
}

impl Hub {
    pub fn new(entity: EntityId) -> Self {
        Hub {
            entity,
            mood: Mood::default(),
            stored: BTreeSet::new(),
            has_session: false,
            desired: BTreeMap::new(),
            desired_version: 1,
            reported: BTreeMap::new(),
            reported_version: 1,
            telemetry: Vec::new(),
            seen: BTreeSet::new(),
            queue: VecDeque::new(),
            calls: BTreeMap::new(),
            connects: 0,
            connection: None,
        }
    }

    pub fn accept(&mut self, now: u64) {
        self.connection = Some(Connection {
            session: None,
            greeting: Greeting::new(Limits { max_in_flight: 10_000, ..Limits::default() }, now),
            input: Vec::new(),
            output: Vec::new(),
            fresh: BTreeSet::new(),
            under_way: Vec::new(),
        });
    }

    /// The connection is gone.
    pub fn drop_connection(&mut self) {
        self.connection = None;
    }

    /// Forgets persistent sessions.
    pub fn forget(&mut self) {
        self.drop_connection();
        self.stored.clear();
        self.has_session = false;
    }

    pub fn is_in(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.session.is_some())
    }

    pub fn take_output(&mut self) -> Vec<u8> {
        self.connection.as_mut().map(|connection| std::mem::take(&mut connection.output)).unwrap_or_default()
    }

    pub fn has_output(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| !connection.output.is_empty())
    }

    /// Fails if the client is silent for longer than it promised.
    pub fn check_deadline(&self, now: u64) {
        if let Some(session) = self.connection.as_ref().and_then(|connection| connection.session.as_ref()) {
            session.check_deadline(now).expect("the client keeps its keep-alive promise");
        }
    }

    /// Bytes came. False if the connection is to be closed.
    pub fn handle(&mut self, bytes: &[u8], now: u64) -> bool {
        let Some(mut connection) = self.connection.take() else { return true };
        connection.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut connection.input);
        let mut left = input.as_slice();
        let open = self.hear(&mut connection, &mut left, now);
        connection.input = left.to_vec();
        self.connection = Some(connection);
        self.deliver_queue();
        open
    }

    fn hear(&mut self, connection: &mut Connection, left: &mut &[u8], now: u64) -> bool {
        if connection.session.is_none() {
            let Some(caller) = connection.greeting.next(left, &mut connection.output).expect("a CONNECT")
            else {
                return true;
            };
            self.connects += 1;
            assert_eq!(caller.connect.client_id, self.entity.as_str());
            let login = caller.connect.login.expect("a login");
            assert_eq!(username::parse(login.username).expect("a username").entity, self.entity.as_str());
            assert_eq!(login.password, Some(&b"token"[..]));
            if let Some(refusal) = self.mood.refusals.pop_front() {
                caller.refuse(refusal, &mut connection.output);
                return false;
            }
            if caller.connect.clean_session {
                self.stored.clear();
                self.has_session = false;
            }
            let session = caller.accept(self.has_session, now, &mut connection.output);
            self.has_session = true;
            connection.session = Some(session);
        }
        loop {
            let Connection { session: Some(session), output, fresh, under_way, .. } = &mut *connection else {
                return true;
            };
            match session.next(left, now, output).expect("a client that keeps the rules") {
                None => return true,
                Some(Event::Disconnect) => return false,
                Some(Event::Unsubscribe(_)) => panic!("the client never does this"),
                Some(Event::Acked(id)) => {
                    if let Some(place) = under_way.iter().position(|(known, _)| *known == id) {
                        let (_, number) = under_way.remove(place);
                        assert_eq!(
                            self.queue.front().map(|(front, _)| *front),
                            Some(number),
                            "acked in order"
                        );
                        self.queue.pop_front();
                    }
                }
                Some(Event::Subscribe(request)) => {
                    let mut outcomes = Vec::new();
                    for (filter, qos) in request.filters() {
                        let subscription = parse_filter(filter, &self.entity).expect("a known filter");
                        assert_eq!(qos, QoS::AtLeastOnce);
                        let name = name(subscription);
                        assert!(fresh.insert(name), "asked for twice");
                        outcomes.push(if self.mood.unsubscribable.contains(&subscription) {
                            self.stored.remove(name);
                            SubscribeOutcome::Refused
                        } else {
                            self.stored.insert(name);
                            SubscribeOutcome::Granted(qos)
                        });
                    }
                    session.sub_ack(request.id, &outcomes, output).unwrap();
                }
                Some(Event::Publish(message)) => {
                    let Received { topic, payload, retain, dup, ticket } = message;
                    assert!(!retain);
                    let request = DeviceRequest::parse(topic, &self.entity).expect("a topic of this device");
                    self.handle_request(request, payload, dup, connection);
                    if let (Some(ticket), Some(session)) = (ticket, &mut connection.session) {
                        session.ack(ticket, &mut connection.output);
                    }
                }
            }
        }
    }

    fn handle_request(
        &mut self,
        request: DeviceRequest<'_>,
        payload: &[u8],
        dup: bool,
        connection: &mut Connection,
    ) {
        match request {
            DeviceRequest::Telemetry { .. } => {
                if self.seen.insert(payload.to_vec()) {
                    self.telemetry.push(payload.to_vec());
                } else {
                    assert!(dup, "a repeat that is not marked");
                }
            }
            DeviceRequest::TwinGet { rid } => {
                if let Some(status) = self.twin_status(200, connection) {
                    let body = if status == 200 { self.twin() } else { error(status) };
                    self.tell(connection, HubMessage::TwinResponse { status, rid, version: None }, &body);
                }
            }
            DeviceRequest::ReportedPatch { rid, version } => {
                assert_eq!(version, None);
                let Some(status) = self.twin_status(204, connection) else {
                    // Carried out, and the answer is lost.
                    return self.merge(payload);
                };
                let body = if status == 204 {
                    self.merge(payload);
                    Vec::new()
                } else {
                    error(status)
                };
                let version = (status == 204).then_some(self.reported_version);
                let rid = rid.expect("an id");
                self.tell(connection, HubMessage::TwinResponse { status, rid, version }, &body);
            }
            DeviceRequest::MethodResponse { status, rid } => {
                let answers = self.calls.get_mut(rid).expect("an answer to a call");
                let answer = (status, payload.to_vec());
                assert!(answers.is_empty() || dup && answers.contains(&answer), "answered twice");
                answers.push(answer);
            }
        }
    }

    fn twin_status(&mut self, right: u16, connection: &Connection) -> Option<u16> {
        assert!(connection.fresh.contains("answers"), "a request before the answers can come");
        self.mood.twin.pop_front().unwrap_or(Some(right))
    }

    fn merge(&mut self, patch: &[u8]) {
        let patch: BTreeMap<String, u64> = serde_json::from_slice(patch).expect("JSON");
        self.reported.extend(patch);
        self.reported_version += 1;
    }

    pub fn twin(&self) -> Vec<u8> {
        let section = |values: &BTreeMap<String, u64>, version: u64| {
            let mut values = values.clone();
            values.insert("$version".into(), version);
            values
        };
        let desired = section(&self.desired, self.desired_version);
        let reported = section(&self.reported, self.reported_version);
        serde_json::to_vec(&serde_json::json!({ "desired": desired, "reported": reported })).unwrap()
    }

    fn tell(&self, connection: &mut Connection, message: HubMessage<'_>, body: &[u8]) {
        let Connection { session: Some(session), output, .. } = connection else { return };
        let topic = message.of(&self.entity);
        if self.mood.doubled {
            session.publish_acked(&topic, body, Attempt::First, output).unwrap();
            session.publish_acked(&topic, body, Attempt::Again, output).unwrap();
        } else {
            session.publish(&topic, body, output).unwrap();
        }
    }

    fn tell_if(&mut self, subscription: &str, message: HubMessage<'_>, body: &[u8]) {
        if let Some(mut connection) = self.connection.take() {
            if self.stored.contains(subscription) {
                self.tell(&mut connection, message, body);
            }
            self.connection = Some(connection);
        }
    }

    pub fn change_desired(&mut self, key: &str, value: u64) {
        self.desired.insert(key.into(), value);
        self.desired_version += 1;
        let version = self.desired_version;
        if self.mood.lost_notices > 0 {
            self.mood.lost_notices -= 1;
            return;
        }
        let body = serde_json::to_vec(&serde_json::json!({ key: value, "$version": version })).unwrap();
        self.tell_if("desired", HubMessage::DesiredChanged { version }, &body);
    }

    /// Calls a method, if the device listens.
    pub fn call(&mut self) {
        if self.is_in() && self.stored.contains("methods") {
            let rid = format!("{:x}", self.calls.len());
            self.calls.insert(rid.clone(), Vec::new());
            self.tell_if("methods", HubMessage::MethodRequest { method: "reboot", rid: &rid }, b"null");
        }
    }

    pub fn queue_message(&mut self, number: u64) {
        self.queue.push_back((number, false));
        self.deliver_queue();
    }

    fn deliver_queue(&mut self) {
        let Some(Connection { session: Some(session), output, under_way, .. }) = &mut self.connection else {
            return;
        };
        if !self.stored.contains("messages") {
            return;
        }
        for (number, delivered) in self.queue.iter_mut() {
            if under_way.iter().any(|(_, known)| known == number) {
                continue;
            }
            let attempt = if *delivered { Attempt::Again } else { Attempt::First };
            let topic = HubMessage::CloudToDevice { bag: Bag::from_encoded("%24.to=x") };
            let body = number.to_string();
            let Ok(id) = session.publish_acked(&topic.of(&self.entity), body.as_bytes(), attempt, output)
            else {
                return;
            };
            under_way.push((id, *number));
            *delivered = true;
        }
    }
}

fn error(status: u16) -> Vec<u8> {
    format!(r#"{{"errorCode":{status}000,"message":"not now"}}"#).into_bytes()
}
