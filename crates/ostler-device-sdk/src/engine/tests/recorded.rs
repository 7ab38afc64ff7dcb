//! Our client beside Azure's own: one conversation as azure-iot-device of Python and of Node held it with a hub, recorded by
//! `conformance/python/record_traffic.py`, and the same conversation held by this engine.
//!
//! The hub's part is what was recorded. Only what names something of the client's (packet ids, request ids) is put into
//! our terms, and where our client asks at another moment the recorded answer comes then.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use ostler_wire::mqtt::packet::{decode, Delivery, Packet, Publish, QoS, SubscribeOutcome, MAX_LENGTH};
use ostler_wire::mqtt::server::{Caller, Event as Heard, Greeting, Limits, Session};
use ostler_wire::mqtt::{Attempt, Received};
use ostler_wire::topic::{parse_filter, DeviceRequest, HubMessage};
use ostler_wire::username;

use super::*;
use crate::connection_string::ConnectionString;
use crate::credential::{Credential, DEFAULT_LIFETIME};
use crate::message::Message;
use crate::Client;

const RECORDINGS: [Recording; 4] = [
    Recording {
        name: "python",
        id: "pump-7",
        text: include_str!("../../../tests/recordings/python-device.txt"),
    },
    Recording { name: "node", id: "pump-7", text: include_str!("../../../tests/recordings/node-device.txt") },
    Recording {
        name: "python",
        id: "pump-7/valve",
        text: include_str!("../../../tests/recordings/python-module.txt"),
    },
    Recording {
        name: "node",
        id: "pump-7/valve",
        text: include_str!("../../../tests/recordings/node-module.txt"),
    },
];

/// As it stands in a user name; it changes with every release.
const OUR_VERSION: &str = concat!("ostler-device-sdk%2F", env!("CARGO_PKG_VERSION"));

struct Recording {
    name: &'static str,
    id: &'static str,
    text: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Device,
    Hub,
}

impl Recording {
    fn entity(&self) -> EntityId {
        EntityId::parse(self.id).unwrap()
    }

    fn packets(&self) -> Vec<(Side, Vec<u8>)> {
        let lines = self.text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| match line.split_at(2) {
                ("> ", packet) => (Side::Device, bytes(packet)),
                ("< ", packet) => (Side::Hub, bytes(packet)),
                _ => panic!("neither from the device nor from the hub: {line}"),
            })
            .collect()
    }

    fn connection_string(&self) -> ConnectionString {
        let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let id = self.id.replace('/', ";ModuleId=");
        format!("HostName=hub1.example.net;DeviceId={id};SharedAccessKey={key}").parse().unwrap()
    }
}

/// Undoes the escapes of a recording.
fn bytes(mut text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(first) = text.bytes().next() {
        if let Some(escape) = text.strip_prefix("\\x") {
            bytes.push(u8::from_str_radix(&escape[..2], 16).unwrap());
            text = &escape[2..];
        } else {
            bytes.push(first);
            text = &text[1..];
        }
    }
    bytes
}

fn packet(bytes: &[u8]) -> Packet<'_> {
    let (packet, length) = decode(bytes, MAX_LENGTH).unwrap().unwrap();
    assert_eq!(length, bytes.len());
    packet
}

/// One thing that a device said, taken apart.
#[derive(Debug)]
struct Said {
    what: String,
    fields: BTreeMap<&'static str, String>,
    /// The packet.
    bytes: Vec<u8>,
}

/// A strict server that writes down what it understands.
struct Judge {
    entity: EntityId,
    session: Option<Session>,
    out: Vec<u8>,
}

impl Judge {
    fn new(entity: EntityId) -> Self {
        Judge { entity, session: None, out: Vec::new() }
    }

    /// Takes whole packets of a device; whatever a hub would not take fails the test.
    fn hear(&mut self, mut input: &[u8]) -> Vec<Said> {
        let mut said = Vec::new();
        if self.session.is_none() && !input.is_empty() {
            let start = input;
            let caller =
                Greeting::new(Limits::default(), 0).next(&mut input, &mut self.out).unwrap().unwrap();
            let fields = self.connect(&caller);
            let bytes = start[..start.len() - input.len()].to_vec();
            said.push(Said { what: "connect".to_owned(), fields, bytes });
            self.session = Some(caller.accept(false, 0, &mut self.out));
        }
        while let Some(session) = &mut self.session {
            let start = input;
            let Some(event) = session.next(&mut input, 0, &mut self.out).unwrap() else { break };
            let bytes = &start[..start.len() - input.len()];
            match event {
                Heard::Publish(message) => {
                    said.push(publish(&self.entity, &message, bytes));
                    message.ticket.into_iter().for_each(|ticket| session.ack(ticket, &mut self.out));
                }
                Heard::Subscribe(request) => {
                    for (filter, qos) in request.filters() {
                        let interest = parse_filter(filter, &self.entity).expect("a filter that hubs know");
                        let what = format!("subscribe {interest:?}");
                        let mut fields = BTreeMap::from([("filter", filter.to_owned())]);
                        fields.insert("QoS", (qos as u8).to_string());
                        fields.insert("filters in the packet", request.len().to_string());
                        said.push(Said { what, fields, bytes: bytes.to_vec() });
                    }
                }
                Heard::Acked(id) => {
                    let fields = BTreeMap::from([("id", id.to_string())]);
                    said.push(Said { what: "acknowledge".to_owned(), fields, bytes: bytes.to_vec() });
                }
                Heard::Disconnect => {
                    let what = "disconnect".to_owned();
                    said.push(Said { what, fields: BTreeMap::new(), bytes: bytes.to_vec() });
                }
                Heard::Unsubscribe(_) => panic!("nobody unsubscribes in this conversation"),
            }
        }
        assert!(input.is_empty(), "half a packet");
        said
    }

    /// The hub sends this, whose receipt may have to be acknowledged.
    fn told(&mut self, message: &Publish<'_>, recorded: &[u8]) {
        HubMessage::parse(message.topic, &self.entity).unwrap();
        if let Delivery::AtLeastOnce { .. } = message.delivery {
            let session = self.session.as_mut().unwrap();
            self.out.clear();
            session.publish_acked(message.topic, message.payload, Attempt::First, &mut self.out).unwrap();
            assert_eq!(self.out, recorded);
        }
    }

    fn connect(&self, caller: &Caller<'_>) -> BTreeMap<&'static str, String> {
        let connect = &caller.connect;
        let login = connect.login.as_ref().unwrap();
        let text = login.username;
        let name = username::parse(text).unwrap();
        assert_eq!(name.entity, self.entity.as_str());
        let (before, parameters) = text.split_once('?').unwrap();
        let parameters: Vec<_> = parameters.split('&').map(|item| item.split_once('=').unwrap()).collect();
        let keys: Vec<_> = parameters.iter().map(|(key, _)| *key).collect();
        let value = |wanted| {
            let found = parameters.iter().find(|(key, _)| *key == wanted);
            found.map_or("absent", |(_, value)| value).to_owned()
        };
        BTreeMap::from([
            ("client id", connect.client_id.to_owned()),
            ("clean session", connect.clean_session.to_string()),
            ("keep-alive", connect.keep_alive_secs.to_string()),
            ("will", connect.will.is_some().to_string()),
            ("user name: hub and entity", before.to_owned()),
            ("user name: parameters", keys.join(", ")),
            ("user name: api-version", value("api-version")),
            (
                "user name: product",
                value("DeviceClientType").replace(OUR_VERSION, "ostler-device-sdk%2F{version}"),
            ),
            ("password", String::from_utf8(login.password.unwrap().to_vec()).unwrap()),
        ])
    }
}

fn publish(entity: &EntityId, message: &Received<'_>, bytes: &[u8]) -> Said {
    let mut topic = message.topic.to_owned();
    let mut fields = BTreeMap::new();
    // Random ones are compared by their form.
    let mut hide = |rid: &str| {
        let shape: String = rid.chars().map(|c| if c.is_ascii_hexdigit() { 'x' } else { c }).collect();
        topic = topic.replace(rid, "{rid}");
        fields.insert("request id", shape);
    };
    let what = match DeviceRequest::parse(message.topic, entity).unwrap() {
        DeviceRequest::Telemetry { bag } => {
            let list: Vec<_> = bag.iter().map(|property| (property.key, property.value)).collect();
            fields.insert("properties", format!("{list:?}"));
            "telemetry"
        }
        DeviceRequest::TwinGet { rid } => {
            hide(rid);
            "get twin"
        }
        DeviceRequest::ReportedPatch { rid, version } => {
            hide(rid.unwrap());
            assert_eq!(version, None);
            "report"
        }
        DeviceRequest::MethodResponse { .. } => "answer method",
    };
    fields.insert("topic", topic);
    fields.insert("QoS", u8::from(message.ticket.is_some()).to_string());
    fields.insert("retain, dup", format!("{}, {}", message.retain, message.dup));
    fields
        .insert("payload", format!("`{}`", message.payload.escape_ascii().to_string().replace("\\\"", "\"")));
    Said { what: what.to_owned(), fields, bytes: bytes.to_vec() }
}

/// What the recorded hub answers, in terms of the client that asks.
struct Answers {
    /// Granted by filter.
    granted: BTreeMap<String, QoS>,
    twin: Vec<u8>,
    reported: Vec<u8>,
}

impl Answers {
    fn new(packets: &[(Side, Vec<u8>)]) -> Self {
        let mut asked = BTreeMap::new();
        let mut granted = BTreeMap::new();
        let (mut twin, mut reported) = (None, None);
        for (side, bytes) in packets {
            match (side, packet(bytes)) {
                (Side::Device, Packet::Subscribe(request)) => {
                    asked.extend(request.filters().map(|(filter, _)| (request.id, filter.to_owned())));
                }
                (Side::Hub, Packet::SubAck(answer)) => {
                    let mut outcomes = answer.outcomes();
                    let Some(SubscribeOutcome::Granted(qos)) = outcomes.next() else { panic!("refused") };
                    assert_eq!(outcomes.next(), None, "one filter in each packet");
                    granted.insert(asked.remove(&answer.id).unwrap(), qos);
                }
                (Side::Hub, Packet::Publish(message))
                    if message.topic.starts_with("$iothub/twin/res/200/") =>
                {
                    twin = Some(bytes.clone());
                }
                (Side::Hub, Packet::Publish(message))
                    if message.topic.starts_with("$iothub/twin/res/204/") =>
                {
                    reported = Some(bytes.clone());
                }
                _ => {}
            }
        }
        Answers { granted, twin: twin.unwrap(), reported: reported.unwrap() }
    }

    /// What follows a packet of ours.
    fn to(&self, bytes: &[u8], entity: &EntityId) -> Vec<u8> {
        let mut out = Vec::new();
        match packet(bytes) {
            Packet::Subscribe(request) => {
                out.extend([0x90, 2 + request.len() as u8]);
                out.extend(request.id.get().to_be_bytes());
                out.extend(request.filters().map(|(filter, _)| self.granted[filter] as u8));
            }
            Packet::Publish(message) => {
                if let Delivery::AtLeastOnce { id, .. } = message.delivery {
                    out.extend([0x40, 2]);
                    out.extend(id.get().to_be_bytes());
                }
                match DeviceRequest::parse(message.topic, entity).unwrap() {
                    DeviceRequest::TwinGet { rid } => answer(&self.twin, rid, entity, &mut out),
                    DeviceRequest::ReportedPatch { rid, .. } => {
                        answer(&self.reported, rid.unwrap(), entity, &mut out);
                    }
                    DeviceRequest::Telemetry { .. } | DeviceRequest::MethodResponse { .. } => {}
                }
            }
            _ => {}
        }
        out
    }
}

/// Appends a recorded answer with another request id.
fn answer(recorded: &[u8], ours: &str, entity: &EntityId, out: &mut Vec<u8>) {
    let Packet::Publish(message) = packet(recorded) else { panic!("no answer") };
    let HubMessage::TwinResponse { rid, .. } = HubMessage::parse(message.topic, entity).unwrap() else {
        panic!("no answer to a twin request: {}", message.topic)
    };
    let topic = message.topic.replace(rid, ours);
    let mut again = Vec::new();
    message.encode(&mut again).unwrap();
    assert_eq!(again, recorded, "the encoder adds nothing of its own");
    Publish { topic: &topic, ..message }.encode(out).unwrap();
}

/// Our client in the conversation.
struct Player {
    engine: Engine,
    judge: Judge,
    answers: Answers,
    said: Vec<Said>,
    events: Vec<String>,
    call: Option<Box<str>>,
    ticket: Option<Ticket>,
}

impl Player {
    /// Lets the client speak, and the hub answer, until both are silent.
    fn exchange(&mut self) {
        loop {
            let _ = self.engine.next(1);
            let output = std::mem::take(self.engine.output());
            let said = self.judge.hear(&output);
            if said.is_empty() {
                break;
            }
            let mut heard = BTreeSet::new();
            for one in &said {
                // Several filters are one packet.
                if heard.insert(one.bytes.clone()) {
                    self.engine.handle_input(&self.answers.to(&one.bytes, &self.judge.entity), 1);
                }
            }
            self.said.extend(said);
        }
        while let Some(event) = self.engine.poll_event() {
            let mut line = format!("{event:?}");
            match event {
                Event::Method { rid, .. } => {
                    line = line.replace(&*rid, "{rid}");
                    self.call = Some(rid);
                }
                Event::Message { ticket, message } => {
                    line = format!("{message:?}");
                    self.ticket = ticket;
                }
                _ => {}
            }
            self.events.push(line);
        }
    }

    /// Does what the other client's application did when it said this.
    fn follow(&mut self, theirs: &Said, recording: &Recording) {
        match theirs.what.as_str() {
            "connect" => {
                let connection = recording.connection_string();
                // Made in the same second as theirs.
                let expires = theirs.fields["password"].rsplit_once("se=").unwrap().1.parse().unwrap();
                let now = UNIX_EPOCH + Duration::from_secs(expires) - DEFAULT_LIFETIME;
                let password = Credential::new(&connection, DEFAULT_LIFETIME, 0).password(now).ok().unwrap();
                let name = Client::builder(connection).username();
                self.engine.start(0);
                assert_eq!(self.engine.next(0), Next::Dial);
                let password = password.text.unwrap();
                self.engine.handle_connected_transport(0, &name, Some(password.as_bytes()));
            }
            "get twin" => self.engine.get_twin(Token(1), None, 1),
            "report" => {
                let patch = br#"{"firmware":{"version":"1.0","slot":"a"},"oldKey":null}"#;
                self.engine.report(Token(2), Bytes::from_static(patch), None, 1);
            }
            "subscribe TwinAnswers" => {} // Ours does that by itself.
            "subscribe DesiredChanges" => self.engine.listen(Interest::Desired, 1),
            "subscribe Methods" => self.engine.listen(Interest::Methods, 1),
            "subscribe Messages" => self.engine.listen(Interest::Messages, 1),
            "answer method" => {
                let call = self.call.take().expect("a call");
                let payload = Bytes::from_static(br#"{"accepted":true}"#);
                self.engine.answer(&call, 202, payload, 1).unwrap();
            }
            "telemetry" => {
                let message = Message::new(r#"{"celsius":21.5}"#)
                    .message_id("id 1+/")
                    .content_type("application/json")
                    .content_encoding("utf-8")
                    .property("k e", "v&=/+$~'");
                let message = if recording.entity().is_module() { message.output("alarms") } else { message };
                self.engine.send(Token(3), message.prepare().unwrap(), None, 1);
            }
            "acknowledge" => self.engine.ack(self.ticket.take().expect("a message")),
            "disconnect" => {
                self.engine.stop(1, 1);
                assert_eq!(self.engine.next(1), Next::Close);
                let output = std::mem::take(self.engine.output());
                self.said.extend(self.judge.hear(&output));
                self.engine.handle_closed(1);
                assert_eq!(self.engine.next(1), Next::Done);
            }
            other => panic!("{other} is recorded, and this test does not know it"),
        }
        self.exchange();
    }

    /// What the hub says of itself.
    fn hear(&mut self, recorded: &[u8]) {
        let own = match packet(recorded) {
            Packet::ConnAck(_) => true,
            Packet::Publish(message) => {
                let is_answer = message.topic.starts_with("$iothub/twin/res/");
                if !is_answer {
                    self.judge.told(&message, recorded);
                }
                !is_answer
            }
            Packet::SubAck(_) | Packet::PubAck(_) => false,
            other => panic!("a hub does not say this: {other:?}"),
        };
        if own {
            self.engine.handle_input(recorded, 1);
            self.exchange();
        }
    }
}

struct Played {
    theirs: Vec<Said>,
    ours: Vec<Said>,
    events: Vec<String>,
}

fn play(recording: &Recording) -> Played {
    let packets = recording.packets();
    let mut theirs = Judge::new(recording.entity());
    let mut player = Player {
        engine: Engine::new(Settings::new(recording.entity())),
        judge: Judge::new(recording.entity()),
        answers: Answers::new(&packets),
        said: Vec::new(),
        events: Vec::new(),
        call: None,
        ticket: None,
    };
    let mut said = Vec::new();
    for (side, bytes) in &packets {
        match side {
            Side::Device => {
                for one in theirs.hear(bytes) {
                    player.follow(&one, recording);
                    said.push(one);
                }
            }
            Side::Hub => {
                if let Packet::Publish(message) = packet(bytes) {
                    theirs.told(&message, bytes);
                }
                player.hear(bytes);
            }
        }
    }
    Played { theirs: said, ours: player.said, events: player.events }
}

fn order(said: &[Said]) -> String {
    said.iter().map(|one| one.what.as_str()).collect::<Vec<_>>().join(", ")
}

#[test]
fn a_strict_server_takes_every_recorded_byte() {
    for recording in RECORDINGS {
        let mut judge = Judge::new(recording.entity());
        let mut said = Vec::new();
        for (side, bytes) in recording.packets() {
            match (side, packet(&bytes)) {
                (Side::Device, _) => said.extend(judge.hear(&bytes)),
                (Side::Hub, Packet::Publish(message)) => judge.told(&message, &bytes),
                (Side::Hub, _) => {}
            }
        }
        let mut expected = "connect, subscribe TwinAnswers, get twin, report, subscribe DesiredChanges, \
                            subscribe Methods, answer method, telemetry, "
            .to_owned();
        if !recording.entity().is_module() {
            expected += "subscribe Messages, acknowledge, ";
        }
        assert_eq!(order(&said), expected + "disconnect", "{} {}", recording.name, recording.id);
    }
}

/// Why ours differ, by what is said and the field of it. Each must be needed.
const REASONS: [(&str, &str, &str); 16] = [
    (
        "all",
        "order",
        "ours reads the twin once the hub tells of desired changes, so that none falls in between (device §4.4)",
    ),
    (
        "connect",
        "keep-alive",
        "any promise up to 1177 s is good; ours is that of the C client (device §2.2, §2.6)",
    ),
    (
        "connect",
        "user name: api-version",
        "opaque to hubs, but a model id needs 2020-09-30 or later; ours is Node's (device §2.2)",
    ),
    (
        "connect",
        "user name: product",
        "the client's own name; hubs decode it and need no raw parentheses (device §2.2)",
    ),
    (
        "subscribe TwinAnswers",
        "QoS",
        "asks for at most that: hubs may send at 0 or 1, and ours takes both; Python's is 1 too (device §2.8)",
    ),
    (
        "subscribe DesiredChanges",
        "QoS",
        "as for twin answers (device §2.8)",
    ),
    (
        "subscribe Methods",
        "QoS",
        "as for twin answers; .NET's is 1 too (device §2.8, §6)",
    ),
    (
        "get twin",
        "QoS",
        "Node, C and .NET send at 0: the answer confirms it, and without one ours asks again (device §4.1)",
    ),
    (
        "get twin",
        "payload",
        "hubs ignore it; C and .NET send none (device §4.1)",
    ),
    (
        "get twin",
        "request id",
        "opaque: hubs repeat it; C's is a counter (device §4.1)",
    ),
    (
        "report",
        "QoS",
        "Node and C send at 0: the answer confirms it, and a patch sent twice merges to the same (device §4.1, §5.2)",
    ),
    (
        "report",
        "payload",
        "white space between JSON tokens; Node has none either (device §4.1)",
    ),
    (
        "report",
        "request id",
        "as for reads of the twin (device §4.1)",
    ),
    (
        "answer method",
        "QoS",
        "Python's is 1 too: a lost answer is not asked for again (device §6)",
    ),
    (
        "answer method",
        "payload",
        "white space between JSON tokens; Node has none either (device §6)",
    ),
    (
        "telemetry",
        "topic",
        "Node leaves ' as it is, and ends a module's topic with a slash; hubs read the same (device §3.1, §3.2)",
    ),
];

#[test]
fn our_packets_differ_from_theirs_only_in_this() {
    let mut found = String::new();
    let mut used = BTreeSet::new();
    for recording in RECORDINGS {
        let Played { theirs, ours, .. } = play(&recording);
        writeln!(found, "{} {}", recording.name, recording.id).unwrap();
        let mut difference = |what: &str, field: &'static str, theirs: &str, ours: &str| {
            if theirs == ours {
                return;
            }
            let reason = REASONS.iter().find(|reason| (reason.0, reason.1) == (what, field));
            let (_, _, why) = reason.unwrap_or(&("", "", "NO REASON"));
            used.insert((what.to_owned(), field));
            writeln!(found, "  {what}, {field}: {theirs} -> {ours}\n    {why}").unwrap();
        };
        difference("all", "order", &order(&theirs), &order(&ours));
        for one in &theirs {
            let other = ours.iter().find(|other| other.what == one.what);
            let other = other.unwrap_or_else(|| panic!("ours never says {}", one.what));
            let fields: BTreeSet<_> = one.fields.keys().chain(other.fields.keys()).collect();
            for field in fields {
                let text = |said: &Said| said.fields.get(field).map_or("absent", |text| text).to_owned();
                difference(&one.what, field, &text(one), &text(other));
            }
        }
    }
    insta::assert_snapshot!(found);
    for (what, field, _) in REASONS {
        assert!(used.contains(&(what.to_owned(), field)), "{what}, {field}: no difference any more");
    }
    assert_eq!(used.len(), REASONS.len(), "differences without a reason");
}

#[test]
fn what_the_hub_said_to_them_is_understood_by_ours() {
    let [python, node, python_module, node_module] = RECORDINGS.map(|recording| play(&recording).events);
    assert_eq!(python, node);
    assert_eq!(python_module, node_module);
    insta::assert_snapshot!(format!("{}\n-- module --\n{}", python.join("\n"), python_module.join("\n")));
}
