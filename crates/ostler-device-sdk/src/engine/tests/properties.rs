//! Whatever goes wrong on the way, nothing is lost, doubled or told twice, and nobody is hammered.

use std::collections::BTreeMap;
use std::time::Duration;

use ostler_wire::mqtt::packet::Refusal;
use proptest::prelude::*;

use super::*;
use crate::status::Cause;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Send { size: usize, timeout: Option<u64> },
    Report { key: u8, timeout: Option<u64> },
    GetTwin,
    Listen(u8),
    ChangeDesired(u8),
    Call,
    Message,
    Renew,
    // What goes wrong.
    Cut { deliver: bool },
    CloseAtHub,
    DieSilently,
    Silence(u64),
    Refuse(Vec<u8>),
    FailToDial(Vec<u8>),
    Garbage(u8),
    AnswerTwin(Vec<u8>),
    ForgetSessions,
    LoseNotices(u32),
}

fn wait() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0u64..50, 3 => 50u64..3_000, 1 => 3_000u64..90_000]
}

fn timeout() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![3 => Just(None), 1 => (1u64..40_000).prop_map(Some)]
}

fn step() -> impl Strategy<Value = Step> {
    use Step::*;
    prop_oneof![
        8 => wait().prop_map(Wait),
        8 => (prop_oneof![9 => 0usize..100, 1 => Just(100_000)], timeout())
            .prop_map(|(size, timeout)| Send { size, timeout }),
        4 => (0u8..3, timeout()).prop_map(|(key, timeout)| Report { key, timeout }),
        1 => Just(GetTwin),
        2 => (0u8..3).prop_map(Listen),
        4 => (0u8..3).prop_map(ChangeDesired),
        3 => Just(Call),
        3 => Just(Message),
        1 => Just(Renew),
        2 => any::<bool>().prop_map(|deliver| Cut { deliver }),
        1 => Just(CloseAtHub),
        1 => Just(DieSilently),
        1 => (0u64..200_000).prop_map(Silence),
        1 => prop::collection::vec(0u8..2, 1..5).prop_map(Refuse),
        1 => prop::collection::vec(0u8..5, 1..5).prop_map(FailToDial),
        1 => (0u8..8).prop_map(Garbage),
        2 => prop::collection::vec(0u8..4, 1..6).prop_map(AnswerTwin),
        1 => Just(ForgetSessions),
        1 => (1u32..3).prop_map(LoseNotices),
    ]
}

/// What no hub may say: invalid, too long, or not now.
const GARBAGE: [&[u8]; 8] = [
    &[0x00, 0x00],
    &[0xf0, 0x00],
    &[0x30, 0xff, 0xff, 0xff, 0x7f],
    &[0x30, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x20, 2, 0, 0, 0x20, 2, 0, 0],
    &[0xc0, 0],
    &[0x34, 5, 0, 1, b'a', 0, 1],
    &[0x31, 4, 0, 9, b'a', b'b'],
];

impl World {
    fn take(&mut self, step: &Step, messages: &mut u64) {
        let now = self.now;
        match step {
            Step::Wait(duration) => self.run(*duration),
            Step::Send { size, timeout } => drop(self.send(*size, *timeout)),
            Step::Report { key, timeout } => drop(self.report(&format!("r{key}"), *timeout)),
            Step::GetTwin => drop(self.get_twin()),
            Step::Listen(which) => {
                let interest =
                    [Interest::Desired, Interest::Methods, Interest::Messages][usize::from(*which)];
                self.engine.listen(interest, now);
            }
            Step::ChangeDesired(key) => {
                let value = self.hub.desired_version + 1;
                self.hub.change_desired(&format!("d{key}"), value);
            }
            Step::Call => self.hub.call(),
            Step::Message => {
                *messages += 1;
                self.hub.queue_message(*messages);
            }
            Step::Renew => self.engine.renew(now),
            Step::Cut { deliver } => self.cut(*deliver),
            Step::CloseAtHub => self.close_at_hub(),
            Step::DieSilently => self.die_silently(),
            Step::Silence(duration) => self.hub.mood.silent_until = now + duration,
            Step::Refuse(codes) => self.hub.mood.refusals.extend(
                codes.iter().map(|code| [Refusal::Unavailable, Refusal::NotAuthorized][usize::from(*code)]),
            ),
            Step::FailToDial(ways) => self.dial_failures.extend(ways.iter().map(|way| {
                let ways = [
                    Lost::Dns,
                    Lost::Refused,
                    Lost::Timeout,
                    Lost::Tls { last: false },
                    Lost::Busy { retry_after: Some(5_000) },
                ];
                ways[usize::from(*way)]
            })),
            Step::Garbage(which) => self.inject(GARBAGE[usize::from(*which)]),
            Step::AnswerTwin(ways) => self
                .hub
                .mood
                .twin
                .extend(ways.iter().map(|way| [None, Some(429), Some(500), Some(503)][usize::from(*way)])),
            Step::ForgetSessions => {
                self.hub.forget();
                self.close_at_hub();
            }
            Step::LoseNotices(count) => self.hub.mood.lost_notices = *count,
        }
        self.run(0);
    }
}

/// What was asked for, to compare with what came of it.
#[derive(Default)]
struct Asked {
    sends: Vec<(Token, bool)>,
    reports: Vec<(Token, u8, bool)>,
    reads: Vec<Token>,
    listens: [bool; 3],
}

fn play(world: &mut World, steps: &[Step]) {
    let mut asked = Asked::default();
    let mut messages = 0;
    for step in steps {
        let token = Token(world.last_token() + 1);
        match step {
            Step::Send { timeout, .. } => asked.sends.push((token, timeout.is_some())),
            Step::Report { key, timeout } => asked.reports.push((token, *key, timeout.is_some())),
            Step::GetTwin => asked.reads.push(token),
            Step::Listen(which) => asked.listens[usize::from(*which)] = true,
            _ => {}
        }
        world.take(step, &mut messages);
    }
    calm_down(world);
    check(world, &asked, messages);
    world.engine.stop(world.now + 10_000, world.now);
    world.run(60_000);
    assert!(world.done, "{:?}", world.engine);
    assert_eq!(world.engine.pending(), 0);
    assert!(world.engine.poll_event().is_none());
}

/// All goes well from here on, for long enough.
fn calm_down(world: &mut World) {
    world.hub.mood = hub::Mood { doubled: world.hub.mood.doubled, ..hub::Mood::default() };
    world.dial_failures.clear();
    world.run(400_000);
    // A notice that was lost shows with the next connection, without another notice.
    world.cut(true);
    world.run(400_000);
}

fn check(world: &World, asked: &Asked, messages: u64) {
    let app = &world.app;
    for (token, has_timeout) in &asked.sends {
        match app.sent.get(token) {
            Some(Ok(())) => {}
            Some(Err(SendError::Expired)) if *has_timeout => {}
            other => panic!("{token:?}: {other:?}"),
        }
    }
    let arrived: Vec<Token> = world
        .hub
        .telemetry
        .iter()
        .map(|body| Token(std::str::from_utf8(body).unwrap().trim().parse().unwrap()))
        .collect();
    assert!(arrived.is_sorted(), "out of order: {arrived:?}");
    for (token, result) in &app.sent {
        assert!(result.is_err() || arrived.contains(token), "{token:?} is confirmed and did not arrive");
    }
    let mut last: BTreeMap<u8, (Token, bool)> = BTreeMap::new();
    for (token, key, has_timeout) in &asked.reports {
        match app.reported.get(token) {
            Some(Ok(Some(_))) => drop(last.insert(*key, (*token, true))),
            // It may have been made or not.
            Some(Err(_)) if *has_timeout => drop(last.insert(*key, (*token, false))),
            other => panic!("{token:?}: {other:?}"),
        }
    }
    for (key, (token, is_sure)) in last {
        let value = world.hub.reported.get(&format!("r{key}")).copied();
        assert!(!is_sure || value == Some(token.0), "r{key} is {value:?} and not {token:?}");
    }
    assert!(asked.reads.iter().all(|token| matches!(app.twins.get(token), Some(Ok(_)))), "{:?}", app.twins);
    if asked.listens[0] {
        assert_eq!(app.desired_version, Some(world.hub.desired_version), "{:?}", world.engine);
        assert_eq!(app.desired, world.hub.desired);
    }
    if asked.listens[1] {
        for (rid, answers) in &world.hub.calls {
            assert!(answers.is_empty() || app.calls.contains(rid.as_str()));
        }
        // What was handed out was answered, over whatever connection.
        assert!(app.calls.iter().all(|rid| !world.hub.calls[&**rid].is_empty()), "{:?}", world.hub.calls);
    }
    if asked.listens[2] {
        assert!(world.hub.queue.is_empty());
        assert!((1..=messages).all(|number| app.messages.contains(&number)));
    }
    let minutes = (world.now / 60_000) as usize;
    assert!(world.dials.len() < 40 + 12 * minutes, "{} attempts in {minutes} minutes", world.dials.len());
    for pair in world.dials.windows(2) {
        assert!(pair[0] <= pair[1]);
    }
}

fn settings(seed: u64, clean_session: bool, twin_sync: TwinSync) -> Settings {
    Settings { seed, clean_session, twin_sync, keep_alive_secs: 60, ..Settings::new(entity()) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    /// The whole conversation, with everything that can go wrong.
    #[test]
    fn nothing_is_lost_doubled_or_hammered(
        steps in prop::collection::vec(step(), 0..60),
        seed: u64,
        max_delay in prop_oneof![Just(0u64), 0u64..30, 0u64..2_000],
        small_pieces: bool,
        doubled: bool,
        clean_session: bool,
        every_connect: bool,
        max_work in prop_oneof![Just(0u64), 0u64..60_000],
    ) {
        let sync = if every_connect { TwinSync::EveryConnect } else { TwinSync::WhenChanged };
        let mut world =
            World::new(settings(seed, clean_session, sync), LinkSettings { max_delay, small_pieces });
        world.hub.mood.doubled = doubled;
        world.app.max_work = max_work;
        play(&mut world, &steps);
    }

    /// Closing at any time reports every token, and ends in time.
    #[test]
    fn closing_leaves_nothing_open(
        steps in prop::collection::vec(step(), 0..30),
        seed: u64,
        patience in 0u64..20_000,
        small_pieces: bool,
    ) {
        let mut world = World::new(settings(seed, false, TwinSync::WhenChanged), LinkSettings { max_delay: 50, small_pieces });
        let mut messages = 0;
        for step in &steps {
            world.take(step, &mut messages);
        }
        let by = world.now + patience;
        world.engine.stop(by, world.now);
        world.run_until(patience, |world| world.done);
        prop_assert!(world.done, "{:?}", world.engine);
        let app = &world.app;
        let reported = app.sent.len() + app.reported.len() + app.twins.len();
        prop_assert_eq!(reported as u64, world.last_token());
        prop_assert_eq!(app.statuses.last().map(|(_, status)| *status), Some(ConnectionStatus::Closed));
        prop_assert_eq!(world.engine.next(world.now), Next::Done);
    }

    /// With a budget, all ends within it when the hub is gone, and every token is told why.
    #[test]
    fn budgets_end_in_a_refusal(seed: u64, budget_secs in 0u64..300, way in 0usize..3) {
        let mut settings = settings(seed, false, TwinSync::WhenChanged);
        settings.retry.budget = Some(Duration::from_secs(budget_secs));
        let mut world = World::new(settings, LinkSettings { max_delay: 20, small_pieces: false });
        let lost = [Lost::Dns, Lost::Timeout, Lost::Refused][way];
        world.dial_failures.extend(std::iter::repeat_n(lost, 10_000));
        let began = world.now;
        let token = world.send(1, None);
        world.run(budget_secs * 1_000 + 1_000);
        let refused = ConnectionStatus::Refused { cause: Cause::RetryExpired };
        prop_assert_eq!(world.app.statuses.last().map(|(_, status)| *status), Some(refused));
        prop_assert_eq!(world.app.sent.get(&token), Some(&Err(SendError::Refused(Cause::RetryExpired))));
        let last = world.dials.last().copied().unwrap_or_default();
        prop_assert!(last <= began + budget_secs * 1_000 + 40);
        // And again, when asked to.
        let attempts = world.dials.len();
        world.dial_failures.clear();
        world.engine.start(world.now);
        world.run(1_000);
        prop_assert_eq!(world.dials.len(), attempts + 1);
        prop_assert!(world.app.statuses.last().is_some_and(|(_, status)| status.is_connected()));
    }
}
