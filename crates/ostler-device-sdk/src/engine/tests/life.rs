//! Connecting, reconnecting, waiting, leaving; queues, deadlines and answers, case by case.

use std::time::Duration;

use ostler_wire::mqtt::packet::Refusal;

use super::*;
use crate::message::Message;
use crate::retry::WhenRefused;

fn statuses(world: &World) -> Vec<ConnectionStatus> {
    world.app.statuses.iter().map(|(_, status)| *status).collect()
}

fn last_status(world: &World) -> ConnectionStatus {
    *statuses(world).last().unwrap()
}

/// The waits between the attempts to dial.
fn waits(world: &World) -> Vec<u64> {
    world.dials.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[test]
fn nothing_happens_before_it_is_needed() {
    let mut world = calm(|_| ());
    world.run(10_000_000);
    assert!(world.dials.is_empty() && world.app.statuses.is_empty());
    assert_eq!(world.engine.next(world.now), Next::Idle { until: None });
    world.engine.listen(Interest::Methods, world.now);
    world.run(0);
    assert_eq!(world.app.listening, [(Interest::Methods, true)]);
    let expected = [ConnectionStatus::Connecting { attempt: 1 }, ConnectionStatus::Connected];
    assert_eq!(statuses(&world), expected);
}

#[test]
fn an_hour_without_a_hub_costs_few_attempts() {
    for seed in 0..50 {
        let mut world = calm(|settings| settings.seed = seed);
        world.dial_failures.extend(std::iter::repeat_n(Lost::Refused, 10_000));
        world.engine.start(world.now);
        world.run(3_600_000);
        assert!((150..500).contains(&world.dials.len()), "{} attempts", world.dials.len());
        for (n, wait) in waits(&world).into_iter().enumerate() {
            let ceiling = (1_000u64 << n.min(10)).min(30_000);
            assert!((1..=ceiling).contains(&wait), "{wait} ms before retry {n}");
        }
        assert!(matches!(
            last_status(&world),
            ConnectionStatus::Disconnected { cause: Cause::NoNetwork, next_attempt: Some(_) }
        ));
        // Back within the longest wait.
        world.dial_failures.clear();
        world.run(30_001);
        assert_eq!(last_status(&world), ConnectionStatus::Connected);
    }
}

#[test]
fn a_good_connection_makes_up_for_failures_before_it_and_a_short_one_does_not() {
    let mut world = calm(|_| ());
    world.engine.start(world.now);
    for _ in 0..8 {
        world.run_until(60_000, |world| world.hub.is_in());
        world.run(1_000);
        world.close_at_hub();
    }
    let long = waits(&world).split_off(5);
    assert!(long.iter().sum::<u64>() > 20_000, "{long:?}");
    world.run_until(60_000, |world| world.hub.is_in());
    world.run(30_000);
    world.close_at_hub();
    world.run(0);
    let lost_at = world.now;
    world.run_until(60_000, |world| world.hub.is_in());
    assert!(world.now - lost_at <= 1_001);
    assert!(statuses(&world)
        .ends_with(&[ConnectionStatus::Connecting { attempt: 2 }, ConnectionStatus::Connected]));
}

#[test]
fn refusals_are_final_or_not_as_the_protocol_says() {
    let finals = [
        (Refusal::ProtocolLevel, Cause::Protocol),
        (Refusal::ClientId, Cause::BadCredential),
        (Refusal::BadLogin, Cause::BadCredential),
    ];
    for (refusal, cause) in finals {
        let mut world = calm(|_| ());
        world.hub.mood.refusals.push_back(refusal);
        let token = world.send(1, None);
        let read = world.get_twin();
        world.run(10_000_000);
        assert_eq!(world.dials.len(), 1);
        assert_eq!(last_status(&world), ConnectionStatus::Refused { cause });
        assert_eq!(world.app.sent[&token], Err(SendError::Refused(cause)));
        assert_eq!(world.app.twins[&read], Err(TwinFailure::Refused(cause)));
        let late = world.send(1, None);
        world.run(0);
        assert_eq!(world.app.sent[&late], Err(SendError::Refused(cause)));
    }
    for (refusal, cause) in
        [(Refusal::Unavailable, Cause::Busy), (Refusal::NotAuthorized, Cause::NotAuthorized)]
    {
        let mut world = calm(|_| ());
        world.hub.mood.refusals.extend([refusal; 4]);
        let token = world.send(1, None);
        world.run(200_000);
        assert_eq!(world.app.sent[&token], Ok(()));
        assert_eq!(world.dials.len(), 5);
        let refused = |status: &ConnectionStatus| matches!(status, ConnectionStatus::Disconnected { cause: c, next_attempt: Some(_) } if *c == cause);
        assert_eq!(statuses(&world).iter().filter(|status| refused(status)).count(), 4);
        if refusal == Refusal::NotAuthorized {
            // Slowly, since there is little hope.
            assert!(waits(&world)[1..].iter().all(|wait| *wait > 15_000), "{:?}", waits(&world));
        }
    }
    let mut world = calm(|settings| settings.retry.when_refused = WhenRefused::GiveUp);
    world.hub.mood.refusals.push_back(Refusal::NotAuthorized);
    world.engine.start(world.now);
    world.run(1_000_000);
    assert_eq!(last_status(&world), ConnectionStatus::Refused { cause: Cause::NotAuthorized });
}

#[test]
fn what_is_final_in_a_transport_is_final() {
    for (lost, cause) in [(Lost::Tls { last: true }, Cause::Tls), (Lost::Credential, Cause::BadCredential)] {
        let mut world = calm(|_| ());
        world.dial_failures.push_back(lost);
        world.engine.start(world.now);
        world.run(1_000_000);
        assert_eq!(world.dials.len(), 1);
        assert_eq!(last_status(&world), ConnectionStatus::Refused { cause });
    }
}

#[test]
fn a_hub_that_asks_for_time_gets_it() {
    let mut world = calm(|_| ());
    world.dial_failures.push_back(Lost::Busy { retry_after: Some(60_000) });
    world.engine.start(world.now);
    world.run(200_000);
    assert_eq!(world.dials.len(), 2);
    assert!((60_001..=61_001).contains(&waits(&world)[0]));
}

#[test]
fn without_retries_the_first_failure_is_final() {
    let mut world = calm(|settings| settings.retry = RetryPolicy::none());
    world.dial_failures.push_back(Lost::Dns);
    world.engine.start(world.now);
    world.run(1_000_000);
    let expected = [
        ConnectionStatus::Connecting { attempt: 1 },
        ConnectionStatus::Disconnected { cause: Cause::NoNetwork, next_attempt: None },
        ConnectionStatus::Refused { cause: Cause::RetryExpired },
    ];
    assert_eq!(statuses(&world), expected);
}

#[test]
fn a_new_policy_shortens_the_wait() {
    let mut world = calm(|settings| settings.retry.first_wait = Duration::from_secs(3_600));
    world.engine.settings.retry.max_wait = Duration::from_secs(3_600);
    world.dial_failures.push_back(Lost::Dns);
    world.engine.start(world.now);
    world.run(1);
    let hasty = RetryPolicy { max_wait: Duration::from_secs(2), ..RetryPolicy::default() };
    world.engine.set_retry(hasty, world.now);
    world.run(2_001);
    assert_eq!(last_status(&world), ConnectionStatus::Connected);
}

#[test]
fn the_queue_is_bounded_by_number_and_by_bytes() {
    let mut world = calm(|settings| settings.queue = QueueLimits { messages: 3, bytes: 1_000 });
    world.dial_failures.push_back(Lost::Dns);
    let taken = [world.send(10, None), world.report("r0", None), world.get_twin()];
    let refused = world.send(10, None);
    world.run(0);
    let error = world.app.sent[&refused];
    assert!(matches!(error, Err(SendError::QueueFull { messages: 3, .. })), "{error:?}");
    world.run(60_000);
    assert_eq!(world.app.sent[&taken[0]], Ok(()));
    assert_eq!(world.engine.pending(), 0);

    world.cut(false);
    let (first, second) = (world.send(600, None), world.send(600, None));
    world.run(60_000);
    assert_eq!(world.app.sent[&first], Ok(()));
    assert!(matches!(world.app.sent[&second], Err(SendError::QueueFull { messages: 1, .. })));
    // What is larger than the queue may go alone.
    let large = world.send(5_000, None);
    world.run(0);
    assert_eq!(world.app.sent[&large], Ok(()));
}

#[test]
fn sizes_are_checked_at_the_door() {
    let most = Message::new(vec![0; crate::message::MAX_MESSAGE_BYTES]);
    assert!(most.clone().prepare().is_ok());
    assert_eq!(most.property("k", "v").prepare(), Err(SendError::TooLarge { size: 262_146 }));
    let long = Message::new("").property("k", "%".repeat(30_000)).prepare();
    assert!(matches!(long, Err(SendError::PropertiesTooLong { .. })), "{long:?}");
    let mut world = calm(|_| ());
    world.engine.report(Token(99), vec![b' '; MAX_PATCH + 1].into(), None, world.now);
    world.run(0);
    assert_eq!(world.app.reported[&Token(99)], Err(TwinFailure::TooLarge { size: MAX_PATCH + 1 }));
    assert!(world.dials.is_empty());
}

#[test]
fn deadlines_hold_without_a_connection() {
    let mut world = calm(|_| ());
    world.dial_failures.extend(std::iter::repeat_n(Lost::Dns, 1_000));
    let message = world.send(1, Some(5_000));
    let report = world.report("r0", Some(6_000));
    world.run(4_999);
    assert!(world.app.sent.is_empty());
    world.run(1);
    assert_eq!(world.app.sent[&message], Err(SendError::Expired));
    world.run(1_000);
    assert_eq!(world.app.reported[&report], Err(TwinFailure::TimedOut));
    assert_eq!(world.engine.pending(), 0);
}

#[test]
fn a_twin_request_is_repeated_at_once_over_the_next_connection() {
    let mut world = calm(|_| ());
    world.hub.mood.twin.extend([None, Some(204)]);
    let token = world.report("r0", None);
    world.run(100);
    assert_eq!(world.hub.reported_version, 2, "carried out, but the answer was lost");
    world.cut(true);
    world.run(1_001);
    assert_eq!(world.app.reported[&token], Ok(Some(3)));
}

#[test]
fn a_twin_request_without_an_answer_is_repeated_until_its_deadline() {
    let mut world = calm(|_| ());
    world.hub.mood.twin.push_back(None);
    let token = world.report("r0", None);
    world.run(29_999);
    assert!(world.app.reported.is_empty());
    world.run(1);
    assert_eq!(world.app.reported[&token], Ok(Some(3)));
    world.hub.mood.twin.extend([None; 10]);
    let token = world.report("r0", Some(40_000));
    world.run(40_000);
    assert_eq!(world.app.reported[&token], Err(TwinFailure::TimedOut));
}

#[test]
fn a_throttled_change_waits_and_those_behind_it_wait_too() {
    let mut world = calm(|_| ());
    world.hub.mood.twin.extend([Some(429), Some(503), Some(429)]);
    let [a, b] = [world.report("r0", None), world.report("r0", None)];
    world.run(0);
    assert!(world.app.reported.is_empty());
    world.run(30_000);
    assert_eq!((&world.app.reported[&a], &world.app.reported[&b]), (&Ok(Some(2)), &Ok(Some(3))));
    assert_eq!(world.hub.reported["r0"], b.0);

    world.hub.mood.twin.extend([Some(429); 1_000]);
    let token = world.report("r0", Some(60_000));
    world.run(60_000);
    let failure = world.app.reported[&token].clone();
    assert!(matches!(failure, Err(TwinFailure::Status { status: 429, .. })), "{failure:?}");
    assert!(world.hub.mood.twin.len() > 980, "asked too often");
    world.hub.mood.twin.clear();
    world.hub.mood.twin.push_back(Some(400));
    let token = world.report("r0", None);
    world.run(0);
    assert!(matches!(world.app.reported[&token], Err(TwinFailure::Status { status: 400, .. })));
}

#[test]
fn refused_filters_cost_only_what_they_are_for() {
    let mut world = calm(|_| ());
    world.hub.mood.unsubscribable = vec![Subscription::TwinAnswers, Subscription::Methods];
    world.engine.listen(Interest::Methods, world.now);
    world.engine.listen(Interest::Desired, world.now);
    let [read, message] = [world.get_twin(), world.send(1, None)];
    world.run(0);
    assert_eq!(world.app.listening, [(Interest::Methods, false), (Interest::Desired, true)]);
    assert_eq!(world.app.twins[&read], Err(TwinFailure::NotSubscribed));
    assert_eq!(world.app.sent[&message], Ok(()));
    // The next connection asks again.
    world.hub.mood.unsubscribable.clear();
    world.cut(true);
    let read = world.get_twin();
    world.run(10_000);
    assert_eq!(world.app.listening[2..], [(Interest::Methods, true)]);
    assert!(world.app.twins[&read].is_ok());
    assert_eq!(world.app.wholes, 1);
}

#[test]
fn a_ticket_of_an_earlier_connection_acknowledges_nothing() {
    let mut world = calm(|_| ());
    world.engine.listen(Interest::Messages, world.now);
    world.run(0);
    world.hub.queue_message(1);
    world.app.holds = true;
    world.run(0);
    assert_eq!(world.app.messages, [1]);
    let [old] = world.take_tickets();
    world.cut(true);
    world.hub.queue_message(2);
    world.run(10_000);
    assert_eq!(world.app.messages, [1, 1, 2]);
    let [one, two] = world.take_tickets();
    world.engine.ack(old);
    world.run(0);
    assert_eq!(world.hub.queue.len(), 2);
    world.engine.ack(two);
    world.run(0);
    assert_eq!(world.hub.queue.len(), 2, "in order");
    world.engine.ack(one);
    world.run(0);
    assert!(world.hub.queue.is_empty());
}

#[test]
fn a_hub_that_confirms_nothing_is_left_in_the_end() {
    let mut world = calm(|settings| settings.keep_alive_secs = 0);
    world.engine.start(world.now);
    world.run(0);
    world.hub.mood.silent_until = u64::MAX;
    world.send(1, Some(1_000));
    world.run(119_999);
    assert_eq!(last_status(&world), ConnectionStatus::Connected);
    world.run(1);
    assert!(matches!(last_status(&world), ConnectionStatus::Disconnected { cause: Cause::NoAnswer, .. }));
}

#[test]
fn a_renewal_is_one_short_absence_and_nothing_twice() {
    for sync in [TwinSync::WhenChanged, TwinSync::EveryConnect] {
        let mut world = calm(|settings| settings.twin_sync = sync);
        world.engine.listen(Interest::Desired, world.now);
        world.engine.listen(Interest::Methods, world.now);
        world.run(60_000);
        let before = world.app.statuses.len();
        world.hub.call();
        let tokens: Vec<Token> = (0..300).map(|_| world.send(1, None)).collect();
        world.engine.renew(world.now);
        tokens.iter().for_each(|_| _ = world.send(1, None));
        world.run(0);
        let expected = [
            ConnectionStatus::Disconnected { cause: Cause::TokenExpired, next_attempt: Some(Duration::ZERO) },
            ConnectionStatus::Connecting { attempt: 1 },
            ConnectionStatus::Connected,
        ];
        assert_eq!(statuses(&world)[before..], expected);
        assert_eq!(world.app.sent.len(), 600);
        assert!(world.app.sent.values().all(Result::is_ok));
        assert_eq!(world.app.wholes, if sync == TwinSync::EveryConnect { 2 } else { 1 });
        assert_eq!(world.app.listening.len(), 2);
        assert!(world.hub.calls.values().all(|answers| answers.len() == 1));
    }
}

#[test]
fn a_renewal_does_not_wait_for_ever() {
    let mut world = calm(|settings| settings.keep_alive_secs = 0);
    world.engine.start(world.now);
    world.run(0);
    world.hub.mood.silent_until = world.now + 6_000;
    let token = world.send(1, None);
    world.run(0);
    world.engine.renew(world.now);
    world.run(4_999);
    assert_eq!(world.dials.len(), 1);
    world.run(2_000);
    assert_eq!(world.dials.len(), 2);
    assert_eq!(world.app.sent[&token], Ok(()));
}

#[test]
fn closing_flushes_first_and_takes_leave() {
    let mut world = calm(|_| ());
    world.dial_failures.push_back(Lost::Dns);
    let message = world.send(1, None);
    let report = world.report("r0", None);
    world.engine.stop(world.now + 60_000, world.now);
    let late = world.send(1, None);
    world.run(0);
    assert_eq!(world.app.sent[&late], Err(SendError::Closed));
    assert!(!world.done);
    world.run(5_000);
    assert!(world.done);
    assert_eq!(world.app.sent[&message], Ok(()));
    assert_eq!(world.app.reported[&report], Ok(Some(2)));
    assert_eq!(last_status(&world), ConnectionStatus::Closed);
    assert_eq!(world.engine.answer("0", 200, Bytes::new(), world.now), Err(AnswerError::Closed));
}

#[test]
fn closing_without_a_hub_ends_at_the_deadline() {
    let mut world = calm(|_| ());
    world.dial_failures.extend(std::iter::repeat_n(Lost::Dns, 1_000));
    let message = world.send(1, None);
    world.run(100);
    world.engine.stop(world.now + 3_000, world.now);
    world.run(2_999);
    assert!(!world.done);
    world.run(1);
    assert!(world.done);
    assert_eq!(world.app.sent[&message], Err(SendError::Closed));
}

#[test]
fn closing_what_never_began_ends_at_once() {
    let mut world = calm(|_| ());
    world.engine.stop(world.now + 3_000, world.now);
    world.run(0);
    assert!(world.done);
    assert_eq!(statuses(&world), [ConnectionStatus::Closed]);
    assert!(world.dials.is_empty());
    world.engine.start(world.now);
    assert_eq!(world.engine.next(world.now), Next::Done);
}

#[test]
fn reading_pauses_while_too_many_messages_are_unacknowledged() {
    let mut world = calm(|_| ());
    world.app.holds = true;
    world.engine.listen(Interest::Messages, world.now);
    world.run(0);
    (1..=400).for_each(|number| world.hub.queue_message(number));
    world.run(1_000);
    assert_eq!(world.app.messages.len(), 256);
    assert!(world.engine.is_paused());
    world.finish_all_work();
    world.app.holds = false;
    world.run(1_000);
    assert_eq!(world.app.messages, (1..=400).collect::<Vec<u64>>());
    assert!(world.hub.queue.is_empty() && !world.engine.is_paused());
}

#[test]
fn a_lost_notice_is_made_up_for_by_the_next() {
    let mut world = calm(|_| ());
    world.engine.listen(Interest::Desired, world.now);
    world.run(0);
    world.hub.change_desired("d0", 1);
    world.hub.mood.lost_notices = 2;
    (2..5).for_each(|value| world.hub.change_desired("d0", value));
    world.run(0);
    assert_eq!((world.app.wholes, world.app.patches), (2, 1));
    assert_eq!(world.app.desired, world.hub.desired);
}

#[test]
fn an_idle_engine_is_small() {
    let mut world = calm(|_| ());
    world.engine.listen(Interest::Desired, world.now);
    world.engine.listen(Interest::Methods, world.now);
    for _ in 0..2_000 {
        world.send(200, None);
    }
    world.report("r0", None);
    world.run(0);
    world.hub.change_desired("d0", 1);
    world.run(300_000);
    assert!(world.app.sent.values().all(Result::is_ok));
    let size = std::mem::size_of::<Engine>();
    assert!(size <= 1_024, "{size} bytes");
    let Engine { output, rest, events, outbox, .. } = &world.engine;
    let kept = output.capacity() + rest.capacity() + events.capacity() * std::mem::size_of::<Event>();
    assert!(kept <= 2_048, "{kept} bytes");
    assert!(outbox.capacity() <= 4);
}
