//! Rules by tables; the queue by random operations against a small model.

use super::*;
use crate::limits::{MESSAGES_PER_DEVICE, MESSAGE_BYTES, MESSAGE_PROPERTIES, MESSAGE_PROPERTY_BYTES};
use crate::time::Timestamp;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const NOW: Timestamp = Timestamp::from_unix_secs(1_800_000_000);

fn message(body: usize) -> Message {
    Message { body: vec![b'x'; body].into(), ..Message::default() }
}

fn property(name: &str, value: &str) -> Message {
    Message { properties: vec![(name.into(), Some(value.into()))], ..Message::default() }
}

#[test]
fn what_may_be_sent() {
    let check = |message: Message, expected: Result<(), MessageError>| {
        assert_eq!(message.check(NOW), expected, "{:?}", message.message_id);
    };
    let character = |what: &str, found| Err(MessageError::Character { what: what.into(), found });
    check(message(0), Ok(()));
    check(message(MESSAGE_BYTES), Ok(()));
    check(message(MESSAGE_BYTES + 1), Err(MessageError::TooLarge(MESSAGE_BYTES + 1)));
    let full = Message { message_id: Some("m".into()), ..message(MESSAGE_BYTES) };
    check(full, Err(MessageError::TooLarge(MESSAGE_BYTES + 1)));
    check(property("é", "ü\u{1F600} "), Ok(()));
    check(property("k", ""), Ok(()));
    check(property("", "v"), Err(MessageError::NoName));
    for name in ["$.mid", "iothub-ack"] {
        check(property(name, "x"), Err(MessageError::Reserved(name.into())));
    }
    check(property("k", "a\nb"), character("the property \"k\"", '\n'));
    check(property("k\0", "a"), character("the name of a property", '\0'));
    let long = "v".repeat(MESSAGE_PROPERTY_BYTES);
    check(property("k", &long), Err(MessageError::PropertiesTooLarge(MESSAGE_PROPERTY_BYTES + 1)));
    let many = Message { properties: vec![("k".into(), None); MESSAGE_PROPERTIES + 1], ..message(0) };
    check(many, Err(MessageError::TooManyProperties(MESSAGE_PROPERTIES + 1)));
    for id in ["", "a b", "é", &"m".repeat(129)] {
        check(Message { message_id: Some(id.into()), ..message(0) }, Err(MessageError::Id));
    }
    check(Message { message_id: Some("a-:.+%_#*?!(),=@;$'9Z".into()), ..message(0) }, Ok(()));
    let odd = Message { content_type: Some("a\tb".into()), ..message(0) };
    check(odd, character("the content type", '\t'));
    let odd = Message { correlation_id: Some("ü".into()), ..message(0) };
    check(odd, character("the correlation id", 'ü'));
}

#[test]
fn how_long_it_may_wait() {
    let check = |secs: i64, expected: bool| {
        let expiry = NOW.plus_secs(secs);
        let outcome = Message { expiry: Some(expiry), ..message(0) }.check(NOW);
        assert_eq!(outcome, if expected { Ok(()) } else { Err(MessageError::Expiry(expiry)) }, "{secs}");
    };
    check(-1, false);
    check(0, false);
    check(1, true);
    check(48 * 3600, true);
    check(48 * 3600 + 1, false);
}

#[test]
fn what_senders_hear() {
    let heard = |feedback: Feedback| Outcome::ALL.map(|outcome| feedback.wants(outcome));
    assert_eq!(heard(Feedback::None), [false; 5]);
    assert_eq!(heard(Feedback::Positive), [true, false, false, false, false]);
    assert_eq!(heard(Feedback::Negative), [false, true, true, true, true]);
    assert_eq!(heard(Feedback::Full), [true; 5]);
    for feedback in Feedback::ALL {
        assert_eq!(Feedback::parse(&feedback.as_str().to_uppercase()), Some(feedback));
    }
    assert_eq!(Feedback::parse("all"), None);
}

#[derive(Clone, Debug)]
enum Event {
    Send {
        ttl: i64,
    },
    /// The device connects again; its old connection is gone.
    Connect,
    Leave,
    /// As much as the window allows is handed out.
    Deliver {
        window: usize,
    },
    Lease {
        secs: i64,
    },
    /// The device confirms one of those that were ever handed out, early or late.
    Confirm {
        which: usize,
        outcome: Option<Outcome>,
    },
    Pass {
        secs: i64,
    },
    Purge,
}

fn any_event() -> impl Strategy<Value = Event> {
    let outcome = prop_oneof![
        3 => Just(Some(Outcome::Success)),
        1 => Just(Some(Outcome::Rejected)),
        1 => Just(None)
    ];
    prop_oneof![
        6 => (1..100i64).prop_map(|ttl| Event::Send { ttl }),
        2 => Just(Event::Connect),
        1 => Just(Event::Leave),
        6 => (0..9usize).prop_map(|window| Event::Deliver { window }),
        2 => (1..40i64).prop_map(|secs| Event::Lease { secs }),
        5 => (any::<usize>(), outcome).prop_map(|(which, outcome)| Event::Confirm { which, outcome }),
        2 => (1..30i64).prop_map(|secs| Event::Pass { secs }),
        1 => Just(Event::Purge),
    ]
}

/// What is known of everything that was ever sent.
#[derive(Default)]
struct World {
    queue: Queue,
    sent: BTreeMap<u64, (Timestamp, u32)>,
    ended: BTreeMap<u64, Outcome>,
    handed: Vec<(u64, Holder)>,
    connection: Option<u64>,
    connections: u64,
    last: BTreeMap<u64, u64>,
    secs: i64,
    next: u64,
}

const MOST: u32 = 3;

impl World {
    fn now(&self) -> Timestamp {
        NOW.plus_secs(self.secs)
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Send { ttl } => self.send(ttl),
            Event::Connect => {
                self.connections += 1;
                self.connection = Some(self.connections);
                self.settle(&[]);
            }
            Event::Leave => {
                self.connection = None;
                self.settle(&[]);
            }
            Event::Deliver { window } => self.deliver(window),
            Event::Lease { secs } => {
                let first =
                    self.queue.iter().find(|entry| entry.holder.is_none()).map(|entry| entry.sequence);
                if let Some(sequence) = first {
                    let token = self.handed.len() as u128;
                    let holder = Holder::Lease { token, until: self.now().plus_secs(secs) };
                    self.queue.hold(sequence, holder);
                    assert_eq!(self.queue.leased(token).map(|entry| entry.sequence), Some(sequence));
                    self.handed.push((sequence, holder));
                }
            }
            Event::Confirm { which, outcome } => {
                if !self.handed.is_empty() {
                    let (sequence, by) = self.handed[which % self.handed.len()];
                    self.settle(&[Confirmed { sequence, by, outcome }]);
                }
            }
            Event::Pass { secs } => {
                self.secs += secs;
                self.settle(&[]);
            }
            Event::Purge => {
                let all = self.queue.end_all(Outcome::Purged);
                self.take(&all);
                assert!(self.queue.is_empty());
            }
        }
        self.check();
    }

    fn send(&mut self, ttl: i64) {
        if self.queue.check_room().is_err() {
            assert_eq!(self.queue.len(), MESSAGES_PER_DEVICE);
            return;
        }
        self.next += 1;
        let expires = self.now().plus_secs(ttl);
        self.sent.insert(self.next, (expires, 0));
        self.queue.push(Entry {
            sequence: self.next,
            message_id: None,
            enqueued: self.now(),
            expires,
            deliveries: 0,
            feedback: Feedback::Full,
            holder: None,
        });
    }

    fn deliver(&mut self, window: usize) {
        let Some(connection) = self.connection else { return };
        let next: Vec<u64> = self.queue.next_for(connection, window).map(|entry| entry.sequence).collect();
        for sequence in next {
            let holder = Holder::Connection(connection);
            self.queue.hold(sequence, holder);
            let last = self.last.entry(connection).or_default();
            // What was given back may come behind later ones; all others come in order.
            let again = |(other, by): &(u64, Holder)| {
                *other == sequence && (*by == holder || matches!(by, Holder::Lease { .. }))
            };
            assert!(self.handed.iter().any(again) || *last < sequence, "out of order");
            *last = sequence.max(*last);
            self.handed.push((sequence, holder));
        }
        let held = self.queue.iter().filter(|entry| entry.holder == Some(Holder::Connection(connection)));
        assert!(held.count() <= window.max(8));
    }

    fn settle(&mut self, confirmed: &[Confirmed]) {
        let terms = Terms { connection: self.connection, now: self.now(), max_deliveries: MOST };
        for said in confirmed {
            let holds = self.queue.get(said.sequence).is_some_and(|entry| entry.holder == Some(said.by));
            if let (Some(outcome), true) = (said.outcome, holds) {
                let settlement = self.queue.settle(confirmed, terms);
                assert!(settlement.ended.contains(&(said.sequence, outcome)), "what was said counts");
            }
        }
        let settlement = self.queue.settle(confirmed, terms);
        self.take(&settlement);
        assert!(self.queue.settle(&[], terms).is_empty(), "settling again changes nothing");
    }

    fn take(&mut self, settlement: &Settlement) {
        for (sequence, outcome) in &settlement.ended {
            assert_eq!(self.ended.insert(*sequence, *outcome), None, "a message ended twice");
            let (expires, deliveries) = self.sent[sequence];
            match outcome {
                Outcome::Expired => assert!(expires <= self.now()),
                Outcome::DeliveryCountExceeded => assert_eq!(deliveries + 1, MOST),
                _ => {}
            }
        }
        for (sequence, deliveries) in &settlement.returned {
            let known = &mut self.sent.get_mut(sequence).unwrap().1;
            assert_eq!(*deliveries, *known + 1);
            *known = *deliveries;
        }
        self.queue.apply(settlement);
    }

    fn check(&self) {
        let there: BTreeSet<u64> = self.queue.iter().map(|entry| entry.sequence).collect();
        let open: BTreeSet<u64> =
            self.sent.keys().copied().filter(|sequence| !self.ended.contains_key(sequence)).collect();
        assert_eq!(there, open, "a message is in the queue exactly until it ends");
        assert!(self.queue.iter().map(|entry| entry.sequence).is_sorted());
        for entry in self.queue.iter() {
            assert!(entry.deliveries < MOST);
            if entry.holder.is_none() {
                assert!(entry.expires > self.now(), "what waits is still of use");
                assert!(self.queue.due().is_some_and(|due| due <= entry.expires));
            }
        }
    }
}

proptest! {
    #[test]
    fn every_message_ends_once(events in prop::collection::vec(any_event(), 1..200)) {
        let mut world = World::default();
        for event in events {
            world.step(event);
        }
        // At last nobody is connected and all time is over.
        world.connection = None;
        world.secs += 10_000;
        world.settle(&[]);
        world.check();
        prop_assert!(world.queue.is_empty());
        prop_assert_eq!(world.ended.len(), world.sent.len());
    }
}
