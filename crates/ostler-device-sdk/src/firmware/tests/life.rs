//! The machine alone, through any sequence of results, refusals and power cuts.

use std::collections::HashMap;

use ostler_core::time::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::firmware::{Accepted, Action, Boot, Code, Downgrade, Ending, Machine, Phase, Rules, Slot, State};

/// When the power is cut around an action.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cut {
    Never,
    Before,
    /// The action was done, its result was not stored.
    After,
}

#[derive(Debug, Clone, Copy)]
struct Turn {
    cut: Cut,
    works: bool,
    wish: bool,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let cut = prop_oneof![6 => Just(Cut::Never), 1 => Just(Cut::Before), 1 => Just(Cut::After)];
    let turn = (cut, prop::bool::weighted(0.8), prop::bool::weighted(0.3));
    prop::collection::vec(turn.prop_map(|(cut, works, wish)| Turn { cut, works, wish }), 0..60)
}

/// What is there when the power is off.
struct World {
    stored: State,
    linked: Slot,
    /// Versions of whole images.
    slots: HashMap<Slot, &'static str>,
    /// Slots whose image was found healthy while it ran.
    confirmed: Vec<Slot>,
    now: Timestamp,
}

const VERSIONS: [&str; 4] = ["1.0.0", "2.0.0", "3.0.0", "4.0.0"];

fn rules() -> Rules {
    Rules {
        trusted: vec![key().public()],
        hardware: HARDWARE.to_owned(),
        downgrade: Downgrade::Refuse,
        max_size: 1 << 20,
        max_boots: 3,
    }
}

fn bytes(version: &str) -> Vec<u8> {
    version.as_bytes().to_vec()
}

fn factory() -> State {
    let image = crate::firmware::Image {
        version: "1.0.0".parse().unwrap(),
        sha256: Some(Digest::of(b"1.0.0")),
        size: 5,
    };
    State::factory(Slot::A, image)
}

fn wish(version: &str) -> Request {
    Request::Package(package(version, &bytes(version), "https://fw.example/x"))
}

impl World {
    fn new() -> Self {
        Self {
            stored: factory(),
            linked: Slot::A,
            slots: HashMap::from([(Slot::A, "1.0.0")]),
            confirmed: vec![Slot::A],
            now: Timestamp::from_unix_secs(1_800_000_000),
        }
    }

    fn boot(&mut self) -> Machine {
        let boot = Boot { running: self.linked, linked: self.linked, counts: true };
        let machine = Machine::start(self.stored.clone(), rules(), boot, self.now);
        self.store(&machine);
        machine
    }

    fn store(&mut self, machine: &Machine) {
        self.stored = machine.state().clone();
        self.check();
    }

    fn check(&self) {
        for slot in [self.linked, self.stored.good] {
            assert!(self.slots.contains_key(&slot), "{slot} boots and holds nothing: {:?}", self.stored);
        }
        assert!(self.confirmed.contains(&self.stored.good), "{:?}", self.stored);
        for slot in [Slot::A, Slot::B] {
            if let Some(image) = self.stored.image(slot) {
                assert_eq!(self.slots.get(&slot).copied(), Some(image.version.as_str()), "{:?}", self.stored);
            }
        }
    }

    /// Does what the machine says. Returns it, or none when the power was cut or the device booted.
    fn act(&mut self, mut machine: Machine, turn: Turn) -> Option<Machine> {
        if turn.cut == Cut::Before {
            return None;
        }
        let result = |code| if turn.works { Ok(()) } else { Err(Failure::new(code, "it did not work")) };
        let now = self.now;
        match machine.next() {
            Action::Idle => {}
            Action::Fetch { .. } => {
                let package = package("4.0.0", &bytes("4.0.0"), "x");
                machine.handle_package(result(Code::Refused).map(|()| package), now);
            }
            Action::Download { target, .. } => {
                self.write(&machine, target.slot);
                self.slots.remove(&target.slot);
                self.confirmed.retain(|slot| *slot != target.slot);
                machine.handle_downloaded(result(Code::Unreachable), now);
            }
            Action::Verify(target) => {
                self.write(&machine, target.slot);
                if turn.works {
                    let version = VERSIONS.into_iter().find(|version| *version == target.version.as_str());
                    self.slots.insert(target.slot, version.unwrap());
                }
                machine.handle_verified(result(Code::DigestMismatch), now);
            }
            Action::Install(target) => {
                self.write(&machine, target.slot);
                machine.handle_installed(result(Code::InstallFailed), now);
            }
            Action::Switch(slot) => {
                self.linked = slot;
                self.check();
                machine.handle_switched(slot, now);
            }
            Action::Boot => return None,
            Action::Check { boots } => {
                assert!((1..=3).contains(&boots));
                if turn.works {
                    self.confirmed.push(machine.running());
                }
                machine.handle_health(result(Code::Unhealthy), now);
            }
        }
        if turn.cut == Cut::After {
            return None;
        }
        self.store(&machine);
        Some(machine)
    }

    fn write(&self, machine: &Machine, slot: Slot) {
        assert_ne!(slot, machine.running(), "the running slot is written to");
        assert_ne!(slot, machine.state().good, "the good slot is written to");
        assert_ne!(slot, self.linked, "the slot that boots is written to");
        assert_eq!(machine.state().image(slot).is_some(), matches!(machine.next(), Action::Install(_)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_device_always_boots_and_an_update_always_ends(turns in turns()) {
        let mut world = World::new();
        let mut machine = Some(world.boot());
        let mut wished = 0;
        for turn in turns {
            world.now = world.now.plus_secs(1);
            let mut present = machine.take().unwrap_or_else(|| world.boot());
            if turn.wish {
                wished = (wished + 1) % VERSIONS.len();
                let request = match turn.works {
                    true => wish(VERSIONS[wished]),
                    false => Request::Uri("https://fw.example/4".to_owned()),
                };
                // Whether it is taken is not the question here.
                let _ = present.handle_request(request, Source::Call, world.now);
                world.store(&present);
            }
            machine = world.act(present, turn);
        }
        // With the power staying on it comes to an end.
        let calm = Turn { cut: Cut::Never, works: true, wish: false };
        for _ in 0..20 {
            let present = machine.take().unwrap_or_else(|| world.boot());
            machine = world.act(present, calm);
        }
        let machine = machine.unwrap();
        prop_assert_eq!(machine.next(), Action::Idle);
        prop_assert_eq!(machine.running(), machine.state().good);
        prop_assert_eq!(world.linked, machine.running());
    }
}

/// Goes on until the machine has nothing to do or wants to boot.
fn settle(machine: &mut Machine, now: Timestamp) -> Action {
    for _ in 0..10 {
        match machine.next() {
            Action::Download { .. } => machine.handle_downloaded(Ok(()), now),
            Action::Verify(_) => machine.handle_verified(Ok(()), now),
            Action::Install(_) => machine.handle_installed(Ok(()), now),
            Action::Switch(slot) => machine.handle_switched(slot, now),
            action => return action,
        }
    }
    panic!("{:?}", machine.state());
}

fn started(state: State, linked: Slot) -> Machine {
    Machine::start(state, rules(), Boot { running: linked, linked, counts: true }, NOW)
}

const NOW: Timestamp = Timestamp::from_unix_secs(1_800_000_000);

#[test]
fn an_image_that_is_booted_too_often_is_given_up() {
    let mut machine = started(factory(), Slot::A);
    assert_eq!(machine.handle_request(wish("2.0.0"), Source::Call, NOW), Ok(Accepted::Started));
    assert_eq!(settle(&mut machine, NOW), Action::Boot);
    let mut state = machine.state().clone();
    for boots in 1..=3 {
        let machine = started(state, Slot::B);
        assert_eq!(machine.next(), Action::Check { boots });
        state = machine.state().clone();
    }
    let mut machine = started(state, Slot::B);
    assert_eq!(machine.next(), Action::Switch(Slot::A));
    assert_eq!(settle(&mut machine, NOW), Action::Boot);
    let machine = started(machine.state().clone(), Slot::A);
    assert_eq!(machine.next(), Action::Idle);
    let ending = &machine.state().last.as_ref().unwrap().ending;
    assert!(matches!(ending, Ending::RolledBack(failure) if failure.code == Code::BootFailed), "{ending:?}");
}

#[test]
fn a_boot_loader_that_falls_back_is_believed() {
    let mut machine = started(factory(), Slot::A);
    machine.handle_request(wish("2.0.0"), Source::Call, NOW).unwrap();
    settle(&mut machine, NOW);
    let boot = Boot { running: Slot::A, linked: Slot::B, counts: true };
    let mut machine = Machine::start(machine.state().clone(), rules(), boot, NOW);
    assert_eq!(machine.next(), Action::Switch(Slot::A));
    machine.handle_switched(Slot::A, NOW);
    assert_eq!(machine.next(), Action::Idle);
    assert_eq!(machine.state().last.as_ref().unwrap().ending.code(), Some(Code::BootFailed));
}

#[test]
fn a_desired_property_that_failed_is_not_tried_again_and_a_call_is() {
    let mut machine = started(factory(), Slot::A);
    machine.handle_request(wish("2.0.0"), Source::Desired, NOW).unwrap();
    machine.handle_downloaded(Err(Failure::new(Code::Refused, "404")), NOW);
    assert_eq!(machine.handle_request(wish("2.0.0"), Source::Desired, NOW), Ok(Accepted::FailedBefore));
    assert_eq!(machine.handle_request(wish("2.0.0"), Source::Call, NOW), Ok(Accepted::Started));
    assert_eq!(machine.handle_request(wish("2.0.0"), Source::Desired, NOW), Ok(Accepted::Running));
    assert_eq!(machine.handle_request(wish("3.0.0"), Source::Call, NOW).unwrap_err().code, Code::Busy);
    assert!(machine.handle_cancel(NOW));
    assert!(!machine.handle_cancel(NOW));
    assert_eq!(machine.handle_request(wish("3.0.0"), Source::Desired, NOW), Ok(Accepted::Started));
}

#[test]
fn what_runs_already_is_not_installed_again() {
    let mut machine = started(factory(), Slot::A);
    assert_eq!(machine.handle_request(wish("1.0.0"), Source::Desired, NOW), Ok(Accepted::Installed));
    assert_eq!(machine.state(), &factory());
    let other = Request::Package(package("1.0.0", b"another image", "u"));
    assert_eq!(machine.handle_request(other, Source::Call, NOW).unwrap_err().code, Code::NotNewer);
}

#[test]
fn a_manifest_that_expires_during_the_download_is_not_installed() {
    let mut machine = started(factory(), Slot::A);
    machine.handle_request(wish("2.0.0"), Source::Call, NOW).unwrap();
    machine.handle_downloaded(Ok(()), NOW);
    machine.handle_verified(Ok(()), Timestamp::parse("2999-01-01T00:00:00Z").unwrap());
    assert_eq!(machine.next(), Action::Idle);
    assert_eq!(machine.state().last.as_ref().unwrap().ending.code(), Some(Code::Expired));
}

#[test]
fn a_device_booted_from_a_slot_amid_a_download_keeps_its_hands_off_it() {
    let mut machine = started(factory(), Slot::A);
    machine.handle_request(wish("2.0.0"), Source::Call, NOW).unwrap();
    let machine = started(machine.state().clone(), Slot::B);
    assert_eq!(machine.next(), Action::Idle);
    assert_eq!(machine.state().last.as_ref().unwrap().ending.code(), Some(Code::Storage));
}

#[test]
fn the_state_comes_back_as_it_was_stored() {
    let mut machine = started(factory(), Slot::A);
    machine.handle_request(wish("2.0.0"), Source::Call, NOW).unwrap();
    let text = serde_json::to_string(machine.state()).unwrap();
    assert_eq!(&serde_json::from_str::<State>(&text).unwrap(), machine.state());
    assert!(matches!(machine.state().update.as_ref().unwrap().phase, Phase::Downloading(_)));
}
