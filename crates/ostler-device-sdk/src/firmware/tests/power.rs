//! Power cuts on a disk that forgets what was not synced: at every operation of an update, amid it, in several ways.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use super::disk::{Ram, Random};
use super::server::Server;
use super::*;
use crate::firmware::{Ending, Exit, Slot, State, Step};

const CHUNK: u64 = 1024;
const SIZE: usize = 12 * CHUNK as usize + 100;
/// What the install hook unpacks.
const APP: &[u8] = &[7; 300];
const FOLDER: &str = "/firmware";

fn provisioned(image: &[u8]) -> Arc<Ram> {
    let ram = Arc::new(Ram::new());
    let store = store(Path::new(FOLDER), ram.clone()).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), image).unwrap();
    store.provision(file.path(), "1.0.0".parse().unwrap()).unwrap();
    ram
}

/// What must hold after every power cut. Returns the state.
fn check(ram: &Arc<Ram>, confirmed: &AtomicBool) -> State {
    ram.aside(|| check_now(ram, confirmed))
}

fn check_now(ram: &Arc<Ram>, confirmed: &AtomicBool) -> State {
    let store = store(Path::new(FOLDER), ram.clone()).unwrap();
    let linked = store.linked().unwrap();
    let state = store.load().unwrap().unwrap();
    for slot in [Slot::A, Slot::B] {
        let Some(image) = state.image(slot) else {
            assert!(slot != linked && slot != state.good, "slot {slot} boots and holds nothing: {state:?}");
            continue;
        };
        let whole = store.holds(slot, image.sha256.unwrap(), image.size).unwrap();
        assert!(whole, "slot {slot} does not hold {}: {state:?}", image.version);
    }
    if linked == Slot::B {
        let app = ram.read(&store.slot(linked).join("app"), 1 << 20).unwrap_or_default();
        assert!(app == APP, "the slot boots without what was unpacked: {state:?}");
    }
    if state.last.as_ref().is_some_and(|last| last.ending == Ending::Completed) {
        assert!(confirmed.load(Ordering::SeqCst), "completed without a health check");
    }
    state
}

/// What is wrong with the new image.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Trouble {
    Nothing,
    Install,
    Health,
}

/// One boot: takes up what is there, asks for the update unless that has happened, and goes on until the device is to be booted,
/// the update has ended, or the power is gone. Notes whether the health check found the image healthy.
async fn boot(
    ram: &Arc<Ram>,
    package: &Package,
    trouble: Trouble,
    confirmed: &Arc<AtomicBool>,
) -> Result<(), Failure> {
    let (seen, disk) = (confirmed.clone(), ram.clone());
    let fails = |is: bool| if is { Err("it is too hot".to_owned()) } else { Ok(()) };
    let builder = builder(Path::new(FOLDER), CHUNK)
        .max_boots(2)
        .install(move |install| {
            // Like any archiver, it syncs nothing.
            let unpacked = disk.write(&install.folder.join("app"), APP);
            async move { unpacked.map_err(|error| error.to_string()).and(fails(trouble == Trouble::Install)) }
        })
        .health_check(move |_| {
            seen.fetch_or(trouble == Trouble::Nothing, Ordering::SeqCst);
            async move { fails(trouble == Trouble::Health) }
        });
    let updater = builder.open_on(store(Path::new(FOLDER), ram.clone())?)?;
    if updater.progress().state.last.is_none() {
        updater.request(Request::Package(package.clone()), Source::Desired).await?;
    }
    let mut changes = updater.changes();
    let https = https();
    tokio::select! {
        result = updater.drive(&https) => {
            let Exit::Boot(_) = result?;
        }
        _ = changes.wait_for(|progress| progress.state.update.is_none()) => {}
    }
    Ok(())
}

/// Plays an update through with a power cut at one operation; returns how many operations there were in all.
async fn play(
    server: &Server,
    package: &Package,
    old: &[u8],
    trouble: Trouble,
    cut: u64,
    random: &mut Random,
) -> u64 {
    let ram = provisioned(old);
    let before = ram.operations();
    ram.cut_at(before + cut);
    let confirmed = Arc::default();
    let mut restarts: Vec<u64> = Vec::new();
    for _ in 0..12 {
        let requests = server.asked().len();
        let result = boot(&ram, package, trouble, &confirmed).await;
        let asked = server.asked()[requests..].to_vec();
        restarts.extend(asked.first().and_then(|asked| asked.range).map(|(start, _)| start));
        if ram.is_off() {
            // What the device had taken in before the cut may be asked for again, but no more than a chunk of it.
            let reached = asked.last().and_then(|asked| asked.range).map(|(start, _)| start);
            ram.power_on(random);
            check(&ram, &confirmed);
            if let Some(reached) = reached {
                restarts.push(reached);
            }
            continue;
        }
        result.unwrap();
        let state = check(&ram, &confirmed);
        if state.update.is_none() && state.last.is_some() {
            let last = state.last.clone().unwrap();
            let works = trouble == Trouble::Nothing;
            let expected = if works { (Slot::B, "2.0.0") } else { (Slot::A, "1.0.0") };
            let linked = ram.aside(|| store(Path::new(FOLDER), ram.clone()).unwrap().linked().unwrap());
            assert_eq!(linked, expected.0);
            assert_eq!(state.image_version(expected.0), expected.1);
            assert_eq!(last.ending == Ending::Completed, works, "{last:?}");
            assert!(restarts.windows(2).all(|pair| pair[1] + CHUNK >= pair[0]), "asked again: {restarts:?}");
            return ram.operations() - before;
        }
    }
    panic!("the update does not end when the power is cut at operation {cut}");
}

impl State {
    fn image_version(&self, slot: Slot) -> &str {
        self.image(slot).unwrap().version.as_str()
    }
}

async fn every_operation(trouble: Trouble, seeds: u64) {
    let (old, new) = (image(1, 5000), image(2, SIZE));
    let server = Server::good(new.clone());
    let package = package("2.0.0", &new, &server.url("image"));
    let operations = play(&server, &package, &old, trouble, u64::MAX / 2, &mut Random::new(0)).await;
    assert!(operations > 90, "only {operations} operations");
    for cut in 0..operations {
        for seed in 0..seeds {
            play(&server, &package, &old, trouble, cut, &mut Random::new(1 + cut * seeds + seed)).await;
        }
    }
}

#[tokio::test]
async fn a_power_cut_at_any_operation_is_survived() {
    every_operation(Trouble::Nothing, 2).await;
}

#[tokio::test]
async fn a_power_cut_at_any_operation_of_a_rollback_is_survived() {
    every_operation(Trouble::Health, 1).await;
}

#[tokio::test]
async fn a_power_cut_at_any_operation_of_an_update_that_fails_is_survived() {
    every_operation(Trouble::Install, 1).await;
}

#[tokio::test]
async fn power_cuts_again_and_again_are_survived() {
    let (old, new) = (image(1, 5000), image(2, SIZE));
    let server = Server::good(new.clone());
    let package = package("2.0.0", &new, &server.url("image"));
    for seed in 1..20 {
        let random = &mut Random::new(seed);
        let ram = provisioned(&old);
        let confirmed = Arc::default();
        for _ in 0..200 {
            ram.cut_at(ram.operations() + 5 + random.below(40) as u64);
            let _ = boot(&ram, &package, Trouble::Nothing, &confirmed).await;
            if ram.is_off() {
                ram.power_on(random);
            }
            let state = check(&ram, &confirmed);
            if state.last.is_some() && state.update.is_none() {
                break;
            }
        }
        let state = check(&ram, &confirmed);
        // With enough cuts amid its trials, a good image may be given up; it never stays half there.
        assert!(matches!(state.step(), Step::Completed | Step::RolledBack), "seed {seed}: {state:?}");
    }
}
