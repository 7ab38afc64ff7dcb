//! What a simulated device does, against the behaviours of a scenario.

use super::super::scenario::Scenario;
use super::*;

const LIVELY: &str = r#"
[[group]]
name = "g"
[group.reported]
name = "{id}"
[[group.method]]
name = "lock"
delay = { uniform = ["0ms", "100ms"] }
answer = [{ weight = 3, payload = { n = { gen = "int", min = 0, max = 1000000 } } }, { status = 500 }, { silent = true }]
then-report = { last = { gen = "status" } }
[[group.report]]
every = "1s"
jitter = 0.5
properties = { t = { gen = "walk", start = 20.0, step = 1.0, min = 0.0, max = 40.0 } }
[group.reboot]
down = { uniform = ["1s", "9s"] }
"#;

fn device(scenario: &str, seed: u64, index: u64) -> Device {
    let scenario = Scenario::parse(scenario).unwrap();
    let id = EntityId::parse(&format!("d-{index}")).unwrap();
    Device::new(id, index, seed, Arc::clone(scenario.group_of(index)))
}

fn at(ms: u64) -> Now {
    Now { ms, wall: Timestamp::from_unix_secs(0).plus_secs((ms / 1000) as i64) }
}

fn connected(device: &mut Device, ms: u64) -> Vec<Command> {
    let mut out = Vec::new();
    device.handle_connected(at(ms), &mut out);
    out
}

fn call(device: &mut Device, method: &str, payload: &str, ms: u64) -> Vec<Command> {
    let mut out = Vec::new();
    device.handle_method(method, "r1", payload.as_bytes(), at(ms), &mut out);
    out
}

/// Lets time pass, and returns what was done when.
fn run(device: &mut Device, until: u64) -> Vec<(u64, Command)> {
    let mut done = Vec::new();
    while let Some(due) = device.deadline().filter(|due| *due <= until) {
        let mut out = Vec::new();
        device.handle_timeout(at(due), &mut out);
        done.extend(out.into_iter().map(|command| (due, command)));
    }
    done
}

fn report(command: &Command) -> Value {
    match command {
        Command::Report(text) => serde_json::from_slice(text).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn status(command: &Command) -> i32 {
    match command {
        Command::Answer { status, .. } => *status,
        other => panic!("{other:?}"),
    }
}

/// Everything that a device does in ten seconds in which `lock` is called each second.
fn history(seed: u64, index: u64) -> Vec<(u64, Command)> {
    let mut device = device(LIVELY, seed, index);
    let mut all: Vec<_> = connected(&mut device, 0).into_iter().map(|command| (0, command)).collect();
    for second in 0..10 {
        all.extend(
            call(&mut device, "lock", "{}", second * 1000).into_iter().map(|command| (second, command)),
        );
        all.extend(run(&mut device, second * 1000 + 999));
    }
    all
}

#[test]
fn the_same_seed_makes_the_same_decisions() {
    assert_eq!(history(1, 5), history(1, 5));
    assert_ne!(history(1, 5), history(2, 5));
    assert_ne!(history(1, 5), history(1, 6));
}

#[test]
fn the_fate_of_a_call_depends_on_no_other_event() {
    let outcomes = |disturbed: bool| {
        let mut device = device(LIVELY, 3, 3);
        connected(&mut device, 0);
        (0..20)
            .map(|n| {
                if disturbed {
                    run(&mut device, n * 500 + 499);
                    call(&mut device, "reboot", "null", n * 500);
                    device.handle_lost();
                    connected(&mut device, n * 500);
                }
                let mut done = call(&mut device, "lock", "{}", n * 500);
                let own = |command: &Command| matches!(command, Command::Answer { .. });
                done.extend(run(&mut device, n * 500 + 400).into_iter().map(|(_, command)| command));
                done.into_iter().find(own)
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(outcomes(false), outcomes(true));
}

#[test]
fn it_introduces_itself_once() {
    let mut device = device(LIVELY, 1, 7);
    assert_eq!(report(&connected(&mut device, 0)[0]), json!({ "name": "d-7" }));
    device.handle_lost();
    assert_eq!(connected(&mut device, 5_000), []);
}

#[test]
fn a_reboot_is_answered_reported_and_done() {
    let mut device = device(LIVELY, 1, 1);
    connected(&mut device, 0);
    let done = call(&mut device, "reboot", "null", 2_000);
    assert_eq!(status(&done[0]), 200);
    assert_eq!(report(&done[1]), json!({ "lastReboot": "1970-01-01T00:00:02.0000000Z" }));
    let left = run(&mut device, 2_200).into_iter().find(|(_, done)| matches!(done, Command::Leave { .. }));
    match left {
        Some((2_100, Command::Leave { rude: false, down_ms })) => assert!((1_000..=9_000).contains(&down_ms)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_update_survives_its_reboot_and_refuses_a_second_one() {
    let text = "[[group]]\nname = 'g'\n[group.firmware]\ndownload = '400ms'\napply = '100ms'\ndown = '1s'";
    let mut device = device(text, 1, 1);
    connected(&mut device, 0);
    assert_eq!(status(&call(&mut device, "firmwareUpdate", "{}", 0)[0]), 400);
    let payload = r#"{"fwPackageUri":"https://fw.example.net/2.1.bin"}"#;
    assert_eq!(status(&call(&mut device, "firmwareUpdate", payload, 0)[0]), 200);
    assert_eq!(status(&call(&mut device, "firmwareUpdate", payload, 10)[0]), 409);
    let done = run(&mut device, 10_000);
    assert!(matches!(done.last(), Some((_, Command::Leave { down_ms: 1_000, .. }))), "{done:?}");
    device.handle_lost();
    let back = connected(&mut device, 11_000);
    assert_eq!(report(&back[0])["firmware"]["version"], "2.1");
    assert_eq!(status(&call(&mut device, "firmwareUpdate", payload, 11_000)[0]), 200);
}

#[test]
fn desired_properties_are_reported_back() {
    let text = "[[group]]\nname = 'g'\n[group.on-desired]\nonly = ['floor']\nunder = 'set'\ndelay = '10ms'";
    let mut device = device(text, 1, 1);
    assert_eq!(connected(&mut device, 0), [Command::GetTwin]);
    let mut out = Vec::new();
    device.handle_desired(br#"{"floor":3,"other":1,"$version":4}"#, at(100), &mut out);
    let done = run(&mut device, 200);
    assert_eq!((done[0].0, report(&done[0].1)), (110, json!({ "set": { "floor": 3 } })));
    let known = br#"{"desired":{"floor":3,"$version":4},"reported":{"set":{"floor":3},"$version":2}}"#;
    device.handle_twin(known, at(300), &mut out);
    device.handle_desired(b"{oops", at(300), &mut out);
    assert_eq!((out, device.deadline()), (vec![], None));
    let changed = br#"{"desired":{"floor":4,"$version":5},"reported":{"set":{"floor":3}}}"#;
    device.handle_twin(changed, at(400), &mut Vec::new());
    assert_eq!(report(&run(&mut device, 500)[0].1), json!({ "set": { "floor": 4 } }));
}

#[test]
fn an_unknown_method_is_404_and_a_flood_is_429() {
    let mut device = device("[[group]]\nname = 'g'\n[[group.method]]\nname = 'm'\ndelay = '1h'", 1, 1);
    assert_eq!(status(&call(&mut device, "other", "null", 0)[0]), 404);
    for _ in 0..MAX_WAITING {
        assert_eq!(call(&mut device, "m", "null", 0), []);
    }
    assert_eq!(status(&call(&mut device, "m", "null", 0)[0]), 429);
    device.handle_lost();
    assert_eq!(device.deadline(), None, "answers die with their connection");
}

#[test]
fn liars_say_one_thing_and_report_another() {
    let text = "[[group]]\nname = 'g'\n[group.lie]\nanswers = 1.0\nstatuses = [418]\nreports = 1.0\n\
        [[group.method]]\nname = 'm'\nthen-report = { last = { gen = 'status' } }\n\
        [[group.report]]\nevery = '1s'\nproperties = { temperature = 20 }";
    let mut device = device(text, 1, 1);
    connected(&mut device, 0);
    let done = call(&mut device, "m", "null", 0);
    assert_eq!((status(&done[0]), report(&done[1])), (418, json!({ "last": 200 })));
    let (_, nonsense) = run(&mut device, 1_000).remove(0);
    assert_ne!(report(&nonsense)["temperature"], 20);
}

#[test]
fn the_restless_leave_and_the_absent_fall_silent() {
    let text = "[[group]]\nname = 'g'\n[group.flap]\nevery = '5s'\ndown = '1s'\nrude = 1.0\n[group.vanish]\nevery = '9s'\ngone = '3s'";
    let mut device = device(text, 1, 1);
    connected(&mut device, 0);
    let done = run(&mut device, 10_000);
    assert_eq!(done[0], (5_000, Command::Leave { rude: true, down_ms: 1_000 }));
    assert_eq!(done[1], (9_000, Command::Vanish { gone_ms: 3_000 }));
}

#[test]
fn waits_grow_up_to_their_ceiling() {
    let mut random = Random::new(1, 1, Stream::Reconnect);
    for (attempt, ceiling) in [(0, 1_000), (1, 2_000), (5, 32_000), (6, 60_000), (90, 60_000)] {
        let waits: Vec<u64> = (0..200).map(|_| backoff(attempt, 1_000, 60_000, &mut random)).collect();
        assert!(waits.iter().all(|wait| *wait <= ceiling), "{attempt}");
        assert!(waits.iter().any(|wait| *wait > ceiling / 2) && waits.iter().any(|wait| *wait < ceiling / 2));
    }
}

#[test]
fn tags_come_from_the_scenario() {
    let text =
        "[[group]]\nname = 'g'\n[group.tags]\nbuilding = { gen = 'cycle', of = [43, 44] }\nwho = '{id}'";
    let scenario = Scenario::parse(text).unwrap();
    let id = EntityId::parse("d-1").unwrap();
    let [tags, desired] = registration(scenario.group_of(1), &id, 1, 1, Timestamp::NEVER);
    assert_eq!((Value::Object(tags), desired.len()), (json!({ "building": 44, "who": "d-1" }), 0));
}
