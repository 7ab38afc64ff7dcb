//! Random operations on a queue of messages: whatever happens, each message that was accepted ends exactly once, and
//! its sender hears of it exactly once.

use crate::support::*;
use ostler_core::id::DeviceId;
use ostler_core::limits::MESSAGES_PER_DEVICE;
use ostler_core::message::{Feedback, Message, MessageError, Outcome};
use ostler_core::record::{Delivery, Interest};
use ostler_core::time::Timestamp;
use ostler_hub::session::{News, Session};
use ostler_hub::{Clock, Error, Hub, Options};
use ostler_store::{Embedded, Shelf, Store};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug)]
enum Step {
    Send {
        ttl: i64,
    },
    /// Takes over if the device is connected.
    Connect {
        clean: bool,
    },
    Leave,
    /// Takes what comes and confirms some of it.
    Take {
        confirm: usize,
    },
    Pass {
        secs: i64,
    },
    Purge,
    /// The hub is gone without a word, and another one opens its store.
    Restart,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..300i64).prop_map(|ttl| Step::Send { ttl }),
        2 => any::<bool>().prop_map(|clean| Step::Connect { clean }),
        1 => Just(Step::Leave),
        5 => (0..12usize).prop_map(|confirm| Step::Take { confirm }),
        2 => (1..120i64).prop_map(|secs| Step::Pass { secs }),
        1 => Just(Step::Purge),
        1 => Just(Step::Restart),
    ]
}

struct World {
    hub: Arc<Hub>,
    store: Arc<dyn Store>,
    secs: Arc<AtomicI64>,
    session: Option<Session>,
    /// Handed to the present connection and not confirmed.
    held: Vec<u64>,
    last: u64,
    sent: u64,
    accepted: BTreeSet<String>,
    confirmed: BTreeSet<String>,
    /// Not confirmed when the queue was purged.
    purged: BTreeSet<String>,
    told: BTreeMap<String, Outcome>,
    names: BTreeMap<u64, String>,
}

async fn open(store: &Arc<dyn Store>, secs: &Arc<AtomicI64>) -> Arc<Hub> {
    let secs = secs.clone();
    let read = move || Timestamp::from_unix_secs(1_800_000_000 + secs.load(Ordering::SeqCst));
    let clock = Clock::new(read, Duration::from_millis(2));
    Hub::open(store.clone(), Options { clock, message_deliveries: 4, ..Options::default() }).await.unwrap()
}

impl World {
    async fn new() -> World {
        let (store, secs): (Arc<dyn Store>, _) = (Arc::new(Embedded::in_memory()), Arc::default());
        let hub = open(&store, &secs).await;
        create(&hub, "d").await;
        World {
            hub,
            store,
            secs,
            session: None,
            held: Vec::new(),
            last: 0,
            sent: 0,
            accepted: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            purged: BTreeSet::new(),
            told: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Send { ttl } => self.send(ttl).await,
            Step::Connect { clean } => {
                let session = connect(&self.hub, "d", clean).await;
                let wish = [(Interest::Messages, Some(Delivery::AtLeastOnce))];
                self.hub.subscribe(session.state(), &wish).await.unwrap();
                self.session = Some(session);
                (self.held, self.last) = (Vec::new(), 0);
            }
            Step::Leave => self.leave(),
            Step::Take { confirm } => self.take(confirm).await,
            Step::Pass { secs } => drop(self.secs.fetch_add(secs, Ordering::SeqCst)),
            Step::Purge => {
                self.purged.extend(self.accepted.difference(&self.confirmed).cloned());
                self.hub.purge_messages(&id("d")).await.unwrap();
            }
            Step::Restart => {
                self.leave();
                // Rounds that were begun hold the hub: what they do is done before the next hub looks.
                while Arc::strong_count(&self.hub) > 1 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                self.hub = open(&self.store, &self.secs).await;
            }
        }
    }

    async fn send(&mut self, ttl: i64) {
        self.sent += 1;
        let name = format!("m-{}", self.sent);
        let message = Message {
            message_id: Some(name.as_str().into()),
            feedback: Feedback::Full,
            expiry: Some(self.hub.now().plus_secs(ttl)),
            ..Message::default()
        };
        match self.hub.send_message(&DeviceId::new("d").unwrap(), message).await {
            Ok(accepted) => {
                self.names.insert(accepted.sequence, name.clone());
                self.accepted.insert(name);
            }
            Err(Error::Message(MessageError::QueueFull)) => {
                assert_eq!(self.hub.queued_messages(), MESSAGES_PER_DEVICE);
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn leave(&mut self) {
        self.session = None;
        self.held.clear();
    }

    async fn take(&mut self, confirm: usize) {
        let Some(session) = &mut self.session else { return };
        while let Ok(came) = tokio::time::timeout(Duration::from_millis(20), news(session)).await {
            let Ok(News::Message(message)) = came else { panic!("{came:?}") };
            assert!(message.sequence > self.last, "out of order");
            assert!(message.deliveries < 4);
            self.last = message.sequence;
            self.held.push(message.sequence);
            if self.held.len() > confirm {
                break;
            }
        }
        for sequence in self.held.drain(..confirm.min(self.held.len())) {
            self.hub.confirm_message(session.state(), sequence);
            self.confirmed.insert(self.names[&sequence].clone());
        }
    }

    /// Lets everything end, and compares.
    async fn judge(mut self) {
        self.leave();
        self.secs.fetch_add(1_000, Ordering::SeqCst);
        while self.hub.queued_messages() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        while let Some(batch) = self.hub.take_feedback().unwrap() {
            for record in &batch.records {
                let before = self.told.insert(record.message_id.to_string(), record.outcome);
                assert_eq!(before, None, "{} was told twice", record.message_id);
            }
            self.hub.complete_feedback(batch.lock).await.unwrap();
        }
        assert_eq!(self.told.keys().cloned().collect::<BTreeSet<_>>(), self.accepted);
        for (name, outcome) in &self.told {
            // What was confirmed before it could be purged has succeeded.
            let fits = match outcome {
                Outcome::Success => self.confirmed.contains(name),
                Outcome::Purged => self.purged.contains(name),
                _ => !self.confirmed.contains(name),
            };
            assert!(fits, "{name} ended with {outcome:?}");
        }
        for shelf in [Shelf::Messages, Shelf::MessageBodies, Shelf::Feedback] {
            assert!(self.store.documents(shelf, "", None, 10).await.unwrap().is_empty(), "{shelf:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_message_ends_once_and_is_told_once(steps in prop::collection::vec(any_step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for step in steps {
                world.step(step).await;
            }
            world.judge().await;
        });
    }
}
