//! Engine, application, link and hub in virtual time.
//!
//! Invariant: time moves only when nothing is left to do at a point, and then forwards.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::hub::Hub;
use crate::engine::random::Random;
use crate::engine::*;
use crate::message::Message;

pub const USERNAME: &str = "hub1.example.net/pump-7/?api-version=2021-04-12";

const NEVER: u64 = u64::MAX / 2;

/// What can go wrong on the way.
#[derive(Clone, Copy, Debug)]
pub struct LinkSettings {
    /// The longest delay of a piece of data, in ms.
    pub max_delay: u64,
    /// Writes and reads come in small pieces.
    pub small_pieces: bool,
}

#[derive(Default)]
struct Link {
    /// Between the moment when dialling began and its result.
    dialling: Option<(u64, Option<Lost>)>,
    up: bool,
    to_hub: VecDeque<(u64, Vec<u8>)>,
    to_client: VecDeque<(u64, Vec<u8>)>,
    /// The hub has closed; the client will see it then.
    closed_at: Option<u64>,
    writable_at: u64,
    /// Nothing comes through any more, though nobody is told.
    dead: bool,
}

/// What the application saw.
#[derive(Default)]
pub struct App {
    pub statuses: Vec<(u64, ConnectionStatus)>,
    pub sent: BTreeMap<Token, Result<(), SendError>>,
    pub reported: BTreeMap<Token, Result<Option<u64>, TwinFailure>>,
    pub twins: BTreeMap<Token, Result<Bytes, TwinFailure>>,
    /// The desired properties as pieced together, and their version.
    pub desired: BTreeMap<String, u64>,
    pub desired_version: Option<u64>,
    pub wholes: u32,
    pub patches: u32,
    pub calls: BTreeSet<Box<str>>,
    pub messages: Vec<u64>,
    pub listening: Vec<(Interest, bool)>,
    answers_due: Vec<(u64, Box<str>)>,
    acks_due: Vec<(u64, Ticket)>,
    /// How long a method runs and a message is worked on, at most.
    pub max_work: u64,
    /// The application never comes to an end with what it gets.
    pub holds: bool,
}

pub struct World {
    pub now: u64,
    pub engine: Engine,
    pub hub: Hub,
    pub app: App,
    pub dials: Vec<u64>,
    /// Results of the next attempts to dial.
    pub dial_failures: VecDeque<Lost>,
    pub done: bool,
    link: Link,
    link_settings: LinkSettings,
    chance: Random,
    last_token: u64,
}

impl World {
    pub fn new(settings: Settings, link_settings: LinkSettings) -> Self {
        World {
            now: 1_000,
            hub: Hub::new(settings.entity.clone()),
            chance: Random::new(settings.seed ^ 0x5eed),
            engine: Engine::new(settings),
            app: App::default(),
            dials: Vec::new(),
            dial_failures: VecDeque::new(),
            done: false,
            link: Link::default(),
            link_settings,
            last_token: 0,
        }
    }

    fn upto(&mut self, most: u64) -> u64 {
        self.chance.bits() % (most + 1)
    }

    /// The number of the last token.
    pub fn last_token(&self) -> u64 {
        self.last_token
    }

    fn token(&mut self) -> Token {
        self.last_token += 1;
        Token(self.last_token)
    }

    pub fn send(&mut self, size: usize, timeout: Option<u64>) -> Token {
        let token = self.token();
        let mut body = token.0.to_string().into_bytes();
        body.resize(body.len().max(size), b' ');
        let message = Message::new(body).property("n", token.0.to_string()).prepare().unwrap();
        self.engine.send(token, message, timeout.map(|timeout| self.now + timeout), self.now);
        token
    }

    pub fn report(&mut self, key: &str, timeout: Option<u64>) -> Token {
        let token = self.token();
        let patch = serde_json::to_vec(&serde_json::json!({ key: token.0 })).unwrap();
        self.engine.report(token, patch.into(), timeout.map(|timeout| self.now + timeout), self.now);
        token
    }

    pub fn get_twin(&mut self) -> Token {
        let token = self.token();
        self.engine.get_twin(token, None, self.now);
        token
    }

    /// The connection breaks; what was under way to the hub may still arrive.
    pub fn cut(&mut self, deliver: bool) {
        if self.link.up {
            self.end_link(deliver);
            self.engine.handle_lost(Lost::Reset, self.now);
        }
    }

    /// The hub closes the connection; the client hears of it once it has read what came before.
    pub fn close_at_hub(&mut self) {
        self.hub.drop_connection();
        self.close_link_from_hub();
    }

    fn close_link_from_hub(&mut self) {
        if self.link.up && self.link.closed_at.is_none() {
            let last = self.link.to_client.back().map_or(self.now, |(at, _)| *at);
            self.link.closed_at = Some(last.max(self.now) + 1);
            self.link.to_hub.clear();
        }
    }

    /// The hub, or who pretends to be it, says this.
    pub fn inject(&mut self, bytes: &[u8]) {
        if self.link.up {
            let at = self.link.to_client.back().map_or(self.now, |(at, _)| *at).max(self.now);
            self.link.to_client.push_back((at, bytes.to_vec()));
        }
    }

    /// From now on nothing comes through in either direction.
    pub fn die_silently(&mut self) {
        self.link.dead = self.link.up;
    }

    fn end_link(&mut self, deliver: bool) {
        if deliver && !self.link.dead {
            for (_, bytes) in std::mem::take(&mut self.link.to_hub) {
                if !self.hub.handle(&bytes, self.now) {
                    break;
                }
            }
        }
        self.hub.drop_connection();
        self.link = Link::default();
    }

    /// Lets time pass.
    pub fn run(&mut self, duration: u64) {
        let end = self.now + duration;
        loop {
            self.settle();
            let next = self.next_event();
            match next.filter(|&next| next <= end && !self.done) {
                Some(next) => self.now = next,
                None => break,
            }
        }
        self.now = end;
        self.settle();
    }

    /// Lets time pass until `condition`, for at most `patience`.
    pub fn run_until(&mut self, patience: u64, condition: impl Fn(&World) -> bool) -> bool {
        let end = self.now + patience;
        loop {
            self.settle();
            if condition(self) {
                return true;
            }
            match self.next_event().filter(|&next| next <= end && !self.done) {
                Some(next) => self.now = next,
                None => return false,
            }
        }
    }

    fn next_event(&self) -> Option<u64> {
        let Link { dialling, up, to_hub, to_client, closed_at, writable_at, .. } = &self.link;
        let deadline = self.engine.deadline();
        if let Some(deadline) = deadline {
            assert!(
                deadline > self.now,
                "a deadline that has passed: {deadline} at {}, {:?}",
                self.now,
                self.engine
            );
        }
        let writable = (*up && !self.engine.output.is_empty()).then_some(*writable_at);
        let to_hub = to_hub.front().map(|(at, _)| (*at).max(self.hub.mood.silent_until));
        let to_client = to_client.front().filter(|_| !self.engine.is_paused()).map(|(at, _)| *at);
        let app =
            self.app.answers_due.iter().map(|(at, _)| *at).chain(self.app.acks_due.iter().map(|(at, _)| *at));
        let silent_until = self.hub.mood.silent_until;
        let speaks = self.hub.has_output().then_some(silent_until).filter(|_| *up);
        let candidates = [
            deadline,
            speaks.filter(|_| !self.link.dead),
            dialling.as_ref().map(|(at, _)| *at),
            writable.filter(|_| !self.link.dead),
            to_hub.filter(|_| !self.link.dead),
            to_client.filter(|_| !self.link.dead),
            closed_at.filter(|_| !self.link.dead),
        ];
        candidates.into_iter().flatten().chain(app).min().map(|next| next.max(self.now))
    }

    /// Does all that is to be done at this point of time.
    fn settle(&mut self) {
        let mut rounds = 0;
        loop {
            rounds += 1;
            assert!(rounds < 100_000, "busy at {}: {:?}", self.now, self.engine);
            let mut busy = self.deliver();
            match self.engine.next(self.now) {
                Next::Dial => {
                    assert!(self.link.dialling.is_none() && !self.link.up, "two transports");
                    self.dials.push(self.now);
                    let delay = self.upto(self.link_settings.max_delay);
                    self.link.dialling = Some((self.now + delay, self.dial_failures.pop_front()));
                    busy = true;
                }
                Next::Close => {
                    let rest = std::mem::take(self.engine.output());
                    if !rest.is_empty() && self.link.up {
                        self.link.to_hub.push_back((self.now, rest));
                    }
                    self.end_link(self.link.closed_at.is_none());
                    self.engine.handle_closed(self.now);
                    busy = true;
                }
                Next::Done => self.done = true,
                Next::Idle { .. } => busy |= self.write(),
            }
            while let Some(event) = self.engine.poll_event() {
                self.handle_event(event);
                busy = true;
            }
            busy |= self.work();
            if !busy {
                return;
            }
        }
    }

    fn write(&mut self) -> bool {
        if !self.link.up || self.link.writable_at > self.now || self.engine.output.is_empty() {
            return false;
        }
        let waiting = self.engine.output.len();
        let mut count = waiting;
        if self.link_settings.small_pieces {
            count = 1 + self.upto(waiting as u64 - 1).min(self.upto(64)) as usize;
            self.link.writable_at = self.now + self.upto(2);
        }
        let bytes: Vec<u8> = self.engine.output.drain(..count).collect();
        if self.link.closed_at.is_none() {
            let delay = self.upto(self.link_settings.max_delay);
            let last = self.link.to_hub.back().map_or(0, |(at, _)| *at);
            self.link.to_hub.push_back(((self.now + delay).max(last), bytes));
        }
        true
    }

    fn deliver(&mut self) -> bool {
        let mut busy = false;
        if self.link.dialling.is_some_and(|(at, _)| at <= self.now) {
            if let Some((_, failure)) = self.link.dialling.take() {
                busy = true;
                match failure {
                    Some(lost) => self.engine.handle_lost(lost, self.now),
                    None => {
                        self.link = Link { up: true, ..Link::default() };
                        self.hub.accept(self.now);
                        self.engine.handle_connected_transport(self.now, USERNAME, Some(b"token"));
                    }
                }
            }
        }
        if !self.link.up || self.link.dead {
            return busy;
        }
        while self.hub.mood.silent_until <= self.now
            && self.link.to_hub.front().is_some_and(|(at, _)| *at <= self.now)
        {
            busy = true;
            let (_, bytes) = self.link.to_hub.pop_front().unwrap();
            if !self.hub.handle(&bytes, self.now) {
                self.collect_from_hub();
                self.close_link_from_hub();
            }
        }
        if self.hub.mood.silent_until <= self.now && self.link.to_hub.is_empty() {
            self.hub.check_deadline(self.now);
        }
        self.collect_from_hub();
        while self.link.up
            && !self.engine.is_paused()
            && self.link.to_client.front().is_some_and(|(at, _)| *at <= self.now)
        {
            busy = true;
            let (_, bytes) = self.link.to_client.pop_front().unwrap();
            let pieces =
                if self.link_settings.small_pieces { 1 + self.upto(6) as usize } else { bytes.len() };
            for piece in bytes.chunks(pieces.max(1)) {
                self.engine.handle_input(piece, self.now);
            }
        }
        if self.link.closed_at.is_some_and(|at| at <= self.now) && self.link.to_client.is_empty() {
            busy = true;
            self.end_link(false);
            self.engine.handle_lost(Lost::Closed, self.now);
        }
        busy
    }

    fn collect_from_hub(&mut self) {
        if self.hub.has_output() && self.hub.mood.silent_until <= self.now {
            let bytes = self.hub.take_output();
            let delay = self.upto(self.link_settings.max_delay);
            let last = self.link.to_client.back().map_or(0, |(at, _)| *at);
            self.link.to_client.push_back(((self.now + delay).max(last), bytes));
        }
    }

    /// The application carries on with what it was called for.
    fn work(&mut self) -> bool {
        let now = self.now;
        let mut busy = false;
        while let Some(place) = self.app.answers_due.iter().position(|(at, _)| *at <= now) {
            let (_, rid) = self.app.answers_due.remove(place);
            let answered = self.engine.answer(&rid, 200, Bytes::from_static(b"{}"), now);
            assert!(
                answered.is_ok() || self.done || matches!(answered, Err(AnswerError::Closed)),
                "{answered:?}"
            );
            assert_ne!(self.engine.answer(&rid, 500, Bytes::new(), now), Ok(()), "answered twice");
            busy = true;
        }
        while let Some(place) = self.app.acks_due.iter().position(|(at, _)| *at <= now) {
            let (_, ticket) = self.app.acks_due.remove(place);
            self.engine.ack(ticket);
            busy = true;
        }
        busy
    }

    fn handle_event(&mut self, event: Event) {
        let work = if self.app.holds { NEVER } else { self.upto(self.app.max_work) };
        let app = &mut self.app;
        match event {
            Event::Status(status) => {
                assert_ne!(app.statuses.last().map(|(_, last)| *last), Some(status), "said twice");
                app.statuses.push((self.now, status));
            }
            Event::Sent { token, result } => {
                assert_eq!(app.sent.insert(token, result), None, "reported twice")
            }
            Event::Reported { token, result } => {
                assert_eq!(app.reported.insert(token, result), None, "reported twice");
            }
            Event::Twin { token, result } => {
                assert_eq!(app.twins.insert(token, result), None, "reported twice")
            }
            Event::Desired { version, patch } => {
                assert_eq!(app.desired_version, Some(version - 1), "a gap");
                let mut patch: BTreeMap<String, u64> = serde_json::from_slice(&patch).unwrap();
                assert_eq!(patch.remove("$version"), Some(version));
                app.desired.extend(patch);
                app.desired_version = Some(version);
                app.patches += 1;
            }
            Event::DesiredWhole { version, twin } => {
                let every = self.engine.settings.twin_sync == TwinSync::EveryConnect;
                assert!(app.desired_version.is_none_or(|last| last < version || every && last == version));
                let mut twin: BTreeMap<String, BTreeMap<String, u64>> =
                    serde_json::from_slice(&twin).unwrap();
                app.desired = twin.remove("desired").unwrap();
                assert_eq!(app.desired.remove("$version"), Some(version));
                app.desired_version = Some(version);
                app.wholes += 1;
            }
            Event::Method { name, rid, payload } => {
                assert_eq!((name.as_str(), &payload[..]), ("reboot", &b"null"[..]));
                assert!(app.calls.insert(rid.clone()), "handed out twice");
                app.answers_due.push((self.now.saturating_add(work), rid));
            }
            Event::Message { message, ticket } => {
                app.messages.push(message.text().unwrap().parse().unwrap());
                app.acks_due.extend(ticket.map(|ticket| (self.now + work, ticket)));
            }
            Event::Listening(interest) => app.listening.push((interest, true)),
            Event::NotListening(interest) => app.listening.push((interest, false)),
        }
    }
}

/// What only some tests need.
impl World {
    /// The tickets of the messages that the application works on.
    pub fn take_tickets<const N: usize>(&mut self) -> [Ticket; N] {
        let tickets: Vec<Ticket> =
            std::mem::take(&mut self.app.acks_due).into_iter().map(|(_, ticket)| ticket).collect();
        tickets.try_into().expect("as many tickets")
    }

    /// The application is done with all it works on.
    pub fn finish_all_work(&mut self) {
        let now = self.now;
        self.app.answers_due.iter_mut().for_each(|(at, _)| *at = now);
        self.app.acks_due.iter_mut().for_each(|(at, _)| *at = now);
    }
}
