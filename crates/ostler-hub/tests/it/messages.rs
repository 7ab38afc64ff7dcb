//! Cloud-to-device messages: from the sender's call to the outcome. Time is a clock that the tests set.

use crate::jobs::mortal::{Death, Mortal};
use crate::support::*;
use ostler_core::id::DeviceId;
use ostler_core::limits::{FEEDBACK_BATCH, MESSAGES_IN_FLIGHT_PER_CONNECTION, MESSAGES_PER_DEVICE};
use ostler_core::message::{Feedback, Message, MessageError, Outcome};
use ostler_core::record::{Delivery, Interest};
use ostler_core::time::Timestamp;
use ostler_hub::messages::{Accepted, CloudMessage, FeedbackBatch, FeedbackLock};
use ostler_hub::registry::Action;
use ostler_hub::session::{News, Session};
use ostler_hub::{Clock, Error, Hub, IfMatch, Options};
use ostler_store::{Embedded, Store};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::Arc;
use std::time::Duration;

/// A hub whose clock stands still until it is set.
struct World {
    hub: Arc<Hub>,
    secs: Arc<AtomicI64>,
    store: Arc<dyn Store>,
}

fn options(secs: &Arc<AtomicI64>) -> Options {
    let secs = secs.clone();
    let read = move || Timestamp::from_unix_secs(1_800_000_000 + secs.load(Ordering::SeqCst));
    let clock = Clock::new(read, Duration::from_millis(2));
    Options { clock, message_deliveries: 3, ..Options::default() }
}

impl World {
    async fn new() -> World {
        let (secs, store): (_, Arc<dyn Store>) = (Arc::default(), Arc::new(Embedded::in_memory()));
        let hub = Hub::open(store.clone(), options(&secs)).await.unwrap();
        create(&hub, "d").await;
        World { hub, secs, store }
    }

    /// The hub is gone as in a crash, and another one opens its store.
    async fn restart(&mut self) {
        self.hub = Hub::open(self.store.clone(), options(&self.secs)).await.unwrap();
    }

    fn pass(&self, secs: i64) {
        self.secs.fetch_add(secs, Ordering::SeqCst);
    }

    async fn send(&self, text: &str) -> Accepted {
        self.try_send(message(text)).await.unwrap()
    }

    async fn try_send(&self, message: Message) -> Result<Accepted, Error> {
        self.hub.send_message(&DeviceId::new("d").unwrap(), message).await
    }

    async fn listen(&self, clean: bool) -> Session {
        let session = connect(&self.hub, "d", clean).await;
        let wish = [(Interest::Messages, Some(Delivery::AtLeastOnce))];
        self.hub.subscribe(session.state(), &wish).await.unwrap();
        session
    }

    /// Waits until this many messages are queued for `d`.
    async fn queued(&self, count: u64) {
        self.until(|hub| hub.queued_messages() as u64 == count).await;
        assert_eq!(self.hub.identity(&id("d")).await.unwrap().messages, count);
    }

    async fn until(&self, met: impl Fn(&Hub) -> bool) {
        while !met(&self.hub) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The next outcomes, once there are as many.
    async fn outcomes(&self, count: usize) -> Vec<(String, Outcome)> {
        self.until(|hub| hub.waiting_feedback() >= count).await;
        let batch = self.hub.take_feedback().unwrap().unwrap();
        self.hub.complete_feedback(batch.lock).await.unwrap();
        told(&batch)
    }
}

fn told(batch: &FeedbackBatch) -> Vec<(String, Outcome)> {
    batch.records.iter().map(|record| (record.message_id.to_string(), record.outcome)).collect()
}

fn message(text: &str) -> Message {
    Message {
        message_id: Some(text.into()),
        feedback: Feedback::Full,
        body: text.as_bytes().into(),
        ..Message::default()
    }
}

async fn next(session: &mut Session) -> Arc<CloudMessage> {
    match news(session).await {
        Ok(News::Message(message)) => message,
        other => panic!("{other:?}"),
    }
}

/// Whether there is nothing in the inbox, after all that was begun has ended.
async fn is_quiet(session: &mut Session) -> bool {
    tokio::time::timeout(Duration::from_secs(1), news(session)).await.is_err()
}

fn text(message: &CloudMessage) -> String {
    String::from_utf8(message.content.body.to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_message_reaches_a_device_and_its_sender_hears_of_it() {
    let world = World::new().await;
    let mut session = world.listen(true).await;
    let sent = Message {
        message_id: None,
        correlation_id: Some("c".into()),
        properties: vec![("k é".into(), Some("v".into())), ("flag".into(), None)],
        ..message("hello")
    };
    let accepted = world.try_send(sent.clone()).await.unwrap();
    let got = next(&mut session).await;
    let made_up = accepted.message_id.clone();
    assert!(made_up.as_deref().is_some_and(|id| id.len() == 32), "feedback needs an id");
    assert_eq!(got.content, Message { message_id: made_up.clone(), ..sent });
    assert_eq!((got.deliveries, got.sequence), (0, accepted.sequence));
    assert_eq!(got.expires, world.hub.now().plus_secs(3600));
    world.queued(1).await;
    world.hub.confirm_message(session.state(), got.sequence);
    world.queued(0).await;
    assert_eq!(world.outcomes(1).await, [(made_up.unwrap().to_string(), Outcome::Success)]);
    assert_eq!(world.hub.take_feedback(), Ok(None));
    // What is confirmed again, or was never there, means nothing.
    world.hub.confirm_message(session.state(), got.sequence);
    world.hub.confirm_message(session.state(), 77);
    assert!(is_quiet(&mut session).await);
}

#[tokio::test(start_paused = true)]
async fn messages_wait_for_a_device_that_is_away_and_come_in_order() {
    let world = World::new().await;
    for i in 0..20 {
        world.send(&i.to_string()).await;
    }
    world.queued(20).await;
    let deaf = connect(&world.hub, "d", false).await;
    world.queued(20).await;
    drop(deaf);
    let mut session = world.listen(false).await;
    let mut held = Vec::new();
    for i in 0..MESSAGES_IN_FLIGHT_PER_CONNECTION {
        held.push(next(&mut session).await);
        assert_eq!(text(&held[i]), i.to_string());
    }
    assert!(is_quiet(&mut session).await, "no more than the window");
    for i in held.len()..20 {
        world.hub.confirm_message(session.state(), held.remove(0).sequence);
        held.push(next(&mut session).await);
        assert_eq!(text(held.last().unwrap()), i.to_string());
    }
    world.queued(8).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_not_confirmed_comes_again_until_it_is_given_up() {
    let world = World::new().await;
    for text in ["a", "b"] {
        world.send(text).await;
    }
    for delivery in 0..3 {
        // The stored filter counts from the second connection on (device §2.5).
        let mut session = match delivery {
            0 => world.listen(false).await,
            _ => connect(&world.hub, "d", false).await,
        };
        for expected in ["a", "b"] {
            let got = next(&mut session).await;
            assert_eq!((text(&got).as_str(), got.deliveries), (expected, delivery));
        }
    }
    world.queued(0).await;
    let gone = |id: &str| (id.to_owned(), Outcome::DeliveryCountExceeded);
    assert_eq!(world.outcomes(2).await, [gone("a"), gone("b")]);
    assert_eq!(world.hub.stats().messages_returned.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_newer_connection_gets_what_the_older_one_held() {
    let world = World::new().await;
    world.send("a").await;
    let mut old = world.listen(false).await;
    let held = next(&mut old).await;
    let mut new = connect(&world.hub, "d", false).await;
    let again = next(&mut new).await;
    assert_eq!((again.sequence, again.deliveries), (held.sequence, 1));
    // The old connection has nothing to say any more.
    world.hub.confirm_message(old.state(), held.sequence);
    assert!(is_quiet(&mut new).await);
    world.queued(1).await;
    world.hub.confirm_message(new.state(), held.sequence);
    world.queued(0).await;
}

#[tokio::test(start_paused = true)]
async fn confirmed_and_gone_at_once_is_confirmed() {
    let world = World::new().await;
    world.send("a").await;
    let mut session = world.listen(false).await;
    let held = next(&mut session).await;
    world.hub.confirm_message(session.state(), held.sequence);
    drop(session);
    world.queued(0).await;
    assert_eq!(world.outcomes(1).await, [("a".to_owned(), Outcome::Success)]);
}

#[tokio::test(start_paused = true)]
async fn time_passes() {
    let world = World::new().await;
    let expiry = Some(world.hub.now().plus_secs(60));
    world.try_send(Message { expiry, ..message("short") }).await.unwrap();
    world.send("long").await;
    let past = Message { expiry: Some(world.hub.now()), ..message("past") };
    assert!(matches!(world.try_send(past).await, Err(Error::Message(MessageError::Expiry(_)))));
    world.pass(60);
    world.queued(1).await;
    assert_eq!(world.outcomes(1).await, [("short".to_owned(), Outcome::Expired)]);
    // What a device has in hand does not expire before it is gone.
    let mut session = world.listen(false).await;
    let held = next(&mut session).await;
    world.pass(4000);
    assert!(is_quiet(&mut session).await);
    world.queued(1).await;
    drop(session);
    world.queued(0).await;
    assert_eq!(world.outcomes(1).await, [(text(&held), Outcome::Expired)]);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_takes_no_more_and_a_purged_one_does() {
    let world = World::new().await;
    for i in 0..MESSAGES_PER_DEVICE {
        world.send(&i.to_string()).await;
    }
    assert_eq!(world.try_send(message("x")).await, Err(Error::Message(MessageError::QueueFull)));
    // What is over makes room at once.
    world.pass(3600);
    world.send("y").await;
    world.queued(1).await;
    let mut session = world.listen(true).await;
    let held = next(&mut session).await;
    assert_eq!(world.hub.purge_messages(&id("d")).await, Ok(1));
    world.hub.confirm_message(session.state(), held.sequence);
    assert_eq!(world.hub.purge_messages(&id("d")).await, Ok(0));
    assert_eq!(world.hub.purge_messages(&id("x")).await, Err(Error::DeviceNotFound("x".into())));
    world.until(|hub| hub.waiting_feedback() == 51).await;
    let outcomes = world.outcomes(51).await;
    assert_eq!(outcomes[50], ("y".to_owned(), Outcome::Purged));
    world.send("z").await;
    assert_eq!(text(&*next(&mut session).await), "z");
}

#[tokio::test(start_paused = true)]
async fn messages_go_with_their_device() {
    let world = World::new().await;
    world.send("a").await;
    world.hub.apply(operation("d", Action::Delete(IfMatch::Any))).await.unwrap();
    assert_eq!(world.hub.queued_messages(), 0);
    assert_eq!(world.try_send(message("b")).await, Err(Error::DeviceNotFound("d".into())));
    create(&world.hub, "d").await;
    let mut session = world.listen(true).await;
    assert!(is_quiet(&mut session).await);
    assert_eq!(world.outcomes(1).await, [("a".to_owned(), Outcome::Purged)]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_loses_nothing_that_was_accepted() {
    let mut world = World::new().await;
    for text in ["a", "b", "c"] {
        world.send(text).await;
    }
    let mut session = world.listen(false).await;
    let first = next(&mut session).await;
    world.hub.confirm_message(session.state(), first.sequence);
    world.queued(2).await;
    world.restart().await;
    drop(session);
    world.queued(2).await;
    let mut session = connect(&world.hub, "d", false).await;
    let after: Vec<String> = vec![text(&*next(&mut session).await), text(&*next(&mut session).await)];
    assert_eq!(after, ["b", "c"]);
    assert!(world.send("d").await.sequence > first.sequence, "sequence numbers go on");
    assert_eq!(world.outcomes(1).await, [("a".to_owned(), Outcome::Success)]);
    world.restart().await;
    assert_eq!(world.hub.take_feedback(), Ok(None), "what was completed does not come again");
}

#[tokio::test(start_paused = true)]
async fn messages_to_an_earlier_device_of_the_same_name_are_gone() {
    let mut world = World::new().await;
    world.send("a").await;
    // A hub that stopped between deleting the device and its messages.
    let delete = ostler_store::Change::DeleteDevice { id: DeviceId::new("d").unwrap(), expect: None };
    world.store.commit(vec![delete]).await;
    world.pass(1);
    create(&world.hub, "d").await;
    let mut session = world.listen(true).await;
    world.restart().await;
    drop(session);
    world.queued(0).await;
    session = world.listen(true).await;
    assert!(is_quiet(&mut session).await);
}

#[tokio::test(start_paused = true)]
async fn feedback_is_held_completed_and_comes_again() {
    let mut world = World::new().await;
    for _ in 0..2 {
        for i in 0..MESSAGES_PER_DEVICE {
            world.send(&i.to_string()).await;
        }
        world.hub.purge_messages(&id("d")).await.unwrap();
    }
    let first = world.hub.take_feedback().unwrap().unwrap();
    let second = world.hub.take_feedback().unwrap().unwrap();
    assert_eq!((first.records.len(), second.records.len()), (FEEDBACK_BATCH, 100 - FEEDBACK_BATCH));
    assert_eq!(world.hub.take_feedback(), Ok(None), "all of it is held");
    assert_eq!(world.hub.complete_feedback(FeedbackLock(7)).await, Err(Error::LockLost));
    world.hub.abandon_feedback(second.lock).unwrap();
    let again = world.hub.take_feedback().unwrap().unwrap();
    assert_eq!(again.records, second.records);
    world.hub.complete_feedback(again.lock).await.unwrap();
    assert_eq!(world.hub.complete_feedback(again.lock).await, Err(Error::LockLost));
    // A lock that lapses gives back what it held.
    world.pass(60);
    assert_eq!(world.hub.complete_feedback(first.lock).await, Err(Error::LockLost));
    assert_eq!(told(&world.hub.take_feedback().unwrap().unwrap()), told(&first));
    world.restart().await;
    assert_eq!(told(&world.hub.take_feedback().unwrap().unwrap()), told(&first), "a restart frees locks");
    world.pass(3600);
    world.until(|hub| hub.waiting_feedback() == 0).await;
    assert_eq!(world.hub.stats().feedback_expired.count(), 64);
}

#[tokio::test(start_paused = true)]
async fn without_messages_nothing_is_kept() {
    let world = World::new().await;
    let session = world.listen(true).await;
    drop(session);
    assert_eq!(world.hub.queued_messages(), 0);
    let mut session = world.listen(true).await;
    let silent = Message { feedback: Feedback::Negative, ..message("a") };
    world.try_send(silent).await.unwrap();
    let got = next(&mut session).await;
    world.hub.confirm_message(session.state(), got.sequence);
    world.queued(0).await;
    assert_eq!(world.hub.waiting_feedback(), 0, "a success was not asked for");
    for shelf in [ostler_store::Shelf::Messages, ostler_store::Shelf::MessageBodies] {
        assert!(world.store.documents(shelf, "", None, 10).await.unwrap().is_empty());
    }
}

/// As above, while the hub goes on: whoever deleted the device was cut off before its messages were removed.
#[tokio::test(start_paused = true)]
async fn a_new_device_does_not_get_what_was_sent_to_an_earlier_one() {
    let world = World::new().await;
    let lend = async || world.hub.lend_message(&DeviceId::new("d").unwrap()).await.unwrap();
    for by_request in [false, true] {
        world.send("a").await;
        let delete = ostler_store::Change::DeleteDevice { id: DeviceId::new("d").unwrap(), expect: None };
        world.store.commit(vec![delete]).await;
        world.pass(1);
        create(&world.hub, "d").await;
        if by_request {
            assert_eq!(lend().await, None);
        } else {
            let mut session = world.listen(true).await;
            assert!(is_quiet(&mut session).await);
        }
        world.queued(0).await;
        assert_eq!(world.outcomes(1).await, [("a".to_owned(), Outcome::Purged)]);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_for_a_message_and_leaves_changes_nothing() {
    let mut world = World::new().await;
    // Its commits take their time, and go on when nobody waits for them.
    world.store = Arc::new(Mortal::new(world.store.clone(), Death::Before));
    world.restart().await;
    world.send("a").await;
    world.send("b").await;
    world.pass(3600);
    let device = DeviceId::new("d").unwrap();
    {
        let gone = world.hub.lend_message(&device);
        let once = std::future::poll_fn(|_| std::task::Poll::Ready(()));
        tokio::select! { biased; _ = gone => {}, () = once => {} }
    }
    assert_eq!(world.hub.lend_message(&device).await, Ok(None));
    world.queued(0).await;
    world.restart().await;
    let told = [("a".to_owned(), Outcome::Expired), ("b".to_owned(), Outcome::Expired)];
    assert_eq!(world.outcomes(2).await, told);
    assert_eq!(world.hub.waiting_feedback(), 0, "each is told once");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_is_asked_again_now_and_then() {
    let secs: Arc<AtomicI64> = Arc::default();
    let store = Arc::new(Mortal::new(Arc::new(Embedded::in_memory()), Death::Before));
    let hub = Hub::open(store.clone(), options(&secs)).await.unwrap();
    create(&hub, "d").await;
    let world = World { hub, secs, store: store.clone() };
    world.send("a").await;
    store.refuse(true);
    world.pass(3600);
    while store.refused() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(store.refused() < 3, "{} times within a second", store.refused());
    store.refuse(false);
    world.pass(1);
    assert_eq!(world.outcomes(1).await, [("a".to_owned(), Outcome::Expired)]);
}
