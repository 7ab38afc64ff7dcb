//! A disk that is really full, not only nearly: the engine fails in the middle of its work.
//!
//! The test runs itself as a child in a mount namespace of its own, where a small tmpfs is the disk.
//! Where the system does not allow that, there is nothing to test.

use super::{options, run};
use crate::contract::{id, load, one, record};
use crate::{Change, CommitError, Embedded, Expect, Options, Shelf, Store, StoreError};
use ostler_core::record::Record;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const FOLDER: &str = "OSTLER_TEST_FULL_FOLDER";
const DISK: &str = "size=48m";
const DEVICES: u64 = 40;
const ROUNDS: u64 = 3;

fn large(text: &str, n: u64) -> Record {
    let mut record = record(text);
    record.identity.managed_by = Some("x".repeat(20_000).into());
    record.identity.etag = n;
    record
}

async fn write(
    store: &Embedded,
    acknowledged: &mut BTreeMap<String, u64>,
    n: u64,
) -> Result<(), CommitError> {
    let text = format!("d{}", n % DEVICES);
    let found = store.load(&id(&text)).await.unwrap();
    let expect = found.map_or(Expect::Absent, |record| Expect::Revision(record.revision));
    one(store, Change::Put { record: Box::new(large(&text, n)), expect }).await?;
    acknowledged.insert(text, n);
    Ok(())
}

async fn check(store: &Embedded, acknowledged: &BTreeMap<String, u64>) {
    assert_eq!(store.counts().devices, acknowledged.len() as u64);
    for (text, n) in acknowledged {
        assert_eq!(load(store, text).await.unwrap().identity.etag, *n, "{text}");
    }
}

/// Writes until the disk is full, makes room, writes on; and sees the same after opening again.
async fn fill_and_make_room(folder: &Path, acknowledged: &mut BTreeMap<String, u64>, n: &mut u64) {
    // No reserve, and an engine that is asked again at once.
    let options = Options { reserve_bytes: 0, mend_every: Duration::ZERO, ..options() };
    let ballast = folder.join("ballast");
    let free = rustix::fs::statvfs(folder).unwrap();
    let half = free.f_bavail * free.f_frsize / 2;
    std::fs::write(&ballast, vec![7; usize::try_from(half).unwrap()]).unwrap();
    let store = Embedded::open(&folder.join("store"), &options).unwrap();
    check(&store, acknowledged).await;
    let refused = loop {
        *n += 1;
        if let Err(refused) = write(&store, acknowledged, *n).await {
            break refused;
        }
    };
    assert!(matches!(refused, CommitError::Store(StoreError::Unavailable(_))), "{refused}");
    assert!(store.status().refusing_writes.is_some());
    check(&store, acknowledged).await;
    std::fs::remove_file(&ballast).unwrap();
    for _ in 0..100 {
        *n += 1;
        write(&store, acknowledged, *n).await.unwrap();
    }
    assert_eq!(store.status().refusing_writes, None);
    check(&store, acknowledged).await;
    drop(store);
    let store = Embedded::open(&folder.join("store"), &options).unwrap();
    check(&store, acknowledged).await;
}

/// Writing until the disk is full, and once more, leaves documents to be read.
async fn fill_and_read_documents(folder: &Path, n: &mut u64) {
    let options = Options { reserve_bytes: 0, mend_every: Duration::from_secs(3600), ..options() };
    let store = Embedded::open(&folder.join("documents"), &options).unwrap();
    let document = |n: u64, value: Vec<u8>| Change::PutDocument {
        shelf: Shelf::Jobs,
        key: n.to_string().into(),
        value,
        expect: None,
    };
    one(&store, document(0, b"first".to_vec())).await.unwrap();
    loop {
        *n += 1;
        if one(&store, document(*n, vec![7; 500_000])).await.is_err() {
            break;
        }
    }
    assert!(one(&store, document(*n, Vec::new())).await.is_err(), "it is not tried before its time");
    assert_eq!(store.document(Shelf::Jobs, "0").await.unwrap().unwrap().value, b"first");
}

const THIS_TEST: &str =
    "embedded::tests::full::a_full_disk_loses_nothing_and_writing_goes_on_when_there_is_room";

/// What the process does that sees the small disk.
fn fill_again_and_again(folder: &Path) {
    let (mut acknowledged, mut n) = (BTreeMap::new(), 0);
    for _ in 0..ROUNDS {
        run(fill_and_make_room(folder, &mut acknowledged, &mut n));
    }
    run(fill_and_read_documents(folder, &mut n));
    eprintln!("wrote {n} records");
}

#[test]
fn a_full_disk_loses_nothing_and_writing_goes_on_when_there_is_room() {
    // The process in the mount namespace runs this very test, told so by its environment.
    if let Ok(folder) = std::env::var(FOLDER) {
        return fill_again_and_again(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o {DISK} none {}", folder.path().display());
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-Urm", "sh", "-c", script, "sh"]);
        command
    };
    if !unshare(&mount).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: this system does not allow a mount namespace");
        return;
    }
    let status = unshare(&format!("{mount} && exec \"$@\""))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", THIS_TEST, "--nocapture"])
        .env(FOLDER, folder.path())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}
