//! Power cuts as processes meet them: a real updater, downloading over a real socket to a real disk, is killed with SIGKILL at each
//! point before, amid and after everything it does to the disk.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use tempfile::TempDir;

use super::disk::Killer;
use super::server::Server;
use super::*;
use crate::firmware::{Ending, Exit, Slot, State};

const CHUNK: u64 = 4096;
const SIZE: usize = 22 * CHUNK as usize + 1000;
/// How the child says that the device is to be booted.
const BOOT: i32 = 10;
const FOLDER: &str = "OSTLER_TEST_FIRMWARE_FOLDER";
const PACKAGE: &str = "OSTLER_TEST_FIRMWARE_PACKAGE";
const KILL_AT: &str = "OSTLER_TEST_FIRMWARE_KILL_AT";

/// The device: one process from boot to boot. Does nothing unless a test below has started it.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let text = std::env::var(PACKAGE).unwrap();
    let kill_at = std::env::var(KILL_AT).unwrap().parse().unwrap();
    let killer = Arc::new(Killer::new(kill_at, folder.join("received")));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let code = runtime.block_on(device(&folder, Package::parse(&text).unwrap(), killer.clone()));
    std::fs::write(folder.join("points"), killer.points().to_string()).unwrap();
    std::process::exit(code);
}

async fn device(folder: &Path, package: Package, killer: Arc<Killer>) -> i32 {
    let confirmed = folder.join("confirmed");
    let unhealthy = folder.join("unhealthy").exists();
    let builder = builder(&folder.join("fw"), CHUNK).max_boots(3).health_check(move |_| {
        let confirmed = confirmed.clone();
        async move {
            if unhealthy {
                return Err("it is too hot".to_owned());
            }
            std::fs::write(confirmed, "").map_err(|error| error.to_string())
        }
    });
    let updater = builder.open_on(store(&folder.join("fw"), killer).unwrap()).unwrap();
    if updater.progress().state.last.is_none() {
        updater.request(Request::Package(package), Source::Desired).await.unwrap();
    }
    let mut changes = updater.changes();
    let https = https();
    tokio::select! {
        result = updater.drive(&https) => {
            let Exit::Boot(_) = result.unwrap();
            BOOT
        }
        _ = changes.wait_for(|progress| progress.state.update.is_none()) => 0,
    }
}

/// A device on a disk of its own: in memory where there is one, for speed; a killed process does not mind.
struct Device {
    folder: TempDir,
    package: String,
}

impl Device {
    fn new(old: &[u8], package: &Package) -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap();
        let file = folder.path().join("factory");
        std::fs::write(&file, old).unwrap();
        let store = Store::open(folder.path().join("fw")).unwrap();
        store.provision(&file, "1.0.0".parse().unwrap()).unwrap();
        Self { folder, package: package.to_json() }
    }

    fn boot(&self, kill_at: u64) -> ExitStatus {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "firmware::tests::process::child", "--nocapture", "--test-threads=1"])
            .env(FOLDER, self.folder.path())
            .env(PACKAGE, &self.package)
            .env(KILL_AT, kill_at.to_string())
            .output()
            .unwrap()
            .status
    }

    fn number(&self, name: &str) -> u64 {
        std::fs::read_to_string(self.folder.path().join(name))
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    }

    /// What must hold whenever no process runs.
    fn check(&self) -> State {
        let store = Store::open(self.folder.path().join("fw")).unwrap();
        let state = store.load().unwrap().unwrap();
        for slot in [store.linked().unwrap(), state.good] {
            let image =
                state.image(slot).unwrap_or_else(|| panic!("slot {slot} boots and holds nothing: {state:?}"));
            assert!(store.holds(slot, image.sha256.unwrap(), image.size).unwrap(), "slot {slot}: {state:?}");
        }
        let completed = state.last.as_ref().is_some_and(|last| last.ending == Ending::Completed);
        assert!(
            !completed || self.folder.path().join("confirmed").exists(),
            "completed without confirmation"
        );
        state
    }

    /// Boots until the update has ended, and kills once, at a point counted over all boots. Returns how many points there were.
    fn live(&self, server: &Server, kill_at: u64) -> (u64, bool) {
        let (mut points, mut killed) = (0, false);
        for _ in 0..8 {
            let received = self.number("received");
            let requests = server.asked().len();
            let status = self.boot(if killed { u64::MAX } else { kill_at - points });
            let first = server.asked().get(requests).and_then(|asked| asked.range);
            if let Some((start, _)) = first {
                assert!(start + CHUNK >= received, "had {received} bytes, asked again from {start}");
            }
            let state = self.check();
            if status.signal() == Some(9) {
                killed = true;
                continue;
            }
            points += self.number("points");
            match status.code() {
                Some(BOOT) => {}
                Some(0) if state.update.is_none() => return (points, killed),
                _ => panic!("point {kill_at}: the device ended with {status}: {state:?}"),
            }
        }
        panic!("point {kill_at}: the update does not end");
    }
}

#[test]
fn a_process_killed_at_any_point_is_survived() {
    let (old, new) = (image(1, 9000), image(2, SIZE));
    let server = Server::good(new.clone());
    let package = package("2.0.0", &new, &server.url("image"));
    let (points, _) = Device::new(&old, &package).live(&server, u64::MAX);
    assert!(points >= 200, "only {points} points");
    for point in 0..points {
        let device = Device::new(&old, &package);
        let (_, killed) = device.live(&server, point);
        assert!(killed, "point {point} was not reached");
        let state = device.check();
        assert_eq!(
            (state.good, state.image(Slot::B).map(|image| image.version.as_str())),
            (Slot::B, Some("2.0.0"))
        );
        assert_eq!(state.last.map(|last| last.ending), Some(Ending::Completed), "point {point}");
    }
}

#[test]
fn an_image_that_never_confirms_is_given_up() {
    let (old, new) = (image(1, 9000), image(2, 3 * CHUNK as usize));
    let server = Server::good(new.clone());
    let device = Device::new(&old, &package("2.0.0", &new, &server.url("image")));
    std::fs::write(device.folder.path().join("unhealthy"), "").unwrap();
    device.live(&server, u64::MAX);
    let state = device.check();
    assert_eq!(state.good, Slot::A);
    assert!(matches!(state.last.unwrap().ending, Ending::RolledBack(_)));
}
