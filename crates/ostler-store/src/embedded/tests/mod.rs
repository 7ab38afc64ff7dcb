//! The embedded engine: the contract on disk and in memory, and what only a disk can do.

mod crash;
mod damage;
mod full;
mod random;

use super::{Embedded, Options};
use crate::contract::{self, cases, create, load, rich_record};
use crate::{CommitError, Expect, OpenError, Shelf, Store, StoreError};
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn options() -> Options {
    // Small, so that tests reach flushes and rotations.
    Options { memtable_bytes: 256 * 1024, activity_every: Duration::from_millis(5), ..Options::default() }
}

fn open(path: &Path) -> Embedded {
    Embedded::open(path, &options()).unwrap()
}

#[test]
fn passes_the_contract_in_memory() {
    for (name, case) in cases() {
        eprintln!("{name}");
        run(case(Arc::new(Embedded::in_memory())));
    }
}

#[test]
fn passes_the_contract_on_disk() {
    for (name, case) in cases() {
        eprintln!("{name}");
        let folder = tempfile::tempdir().unwrap();
        run(case(Arc::new(open(folder.path()))));
    }
}

#[test]
fn everything_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let mut written = rich_record("d");
    let last = run(async {
        let store = open(folder.path());
        written.revision = create(&store, &written).await;
        let setting = store.put_setting("s", b"value".to_vec(), Expect::Absent).await.unwrap();
        written.activity.last_activity = contract::at(99);
        store.touch(&written.id, written.activity);
        let kept = contract::put_document(Shelf::Jobs, "j", "kept", Some(Expect::Absent));
        let document = contract::one(&store, kept).await.unwrap();
        store.close().await;
        assert!(store.document(Shelf::Jobs, "j").await.is_err(), "a closed store has let go of its files");
        setting.max(document)
    });
    run(async {
        let store = open(folder.path());
        assert_eq!(load(&store, "d").await, Some(written.clone()));
        assert!(store.setting("s").await.unwrap().is_some());
        let document = store.document(Shelf::Jobs, "j").await.unwrap().unwrap();
        assert_eq!((&*document.value, document.revision), (&b"kept"[..], last));
        assert_eq!(store.counts().devices, 1);
        let next = create(&store, &contract::record("e")).await;
        assert!(next > written.revision.max(last), "revisions go on where they were");
    });
}

#[test]
fn a_copy_made_while_writing_opens_and_holds_what_was_acknowledged_before_it() {
    for on_disk in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy");
        let store = if on_disk { open(&folder.path().join("store")) } else { Embedded::in_memory() };
        let told = AtomicU64::new(0);
        let before = run(async {
            create(&store, &rich_record("d")).await;
            create(&store, &rich_record("d/m")).await;
            let document = contract::put_document(Shelf::Configurations, "c", "copied", None);
            contract::one(&store, document).await.unwrap();
            store.put_setting("s", b"value".to_vec(), Expect::Absent).await.unwrap();
            store.touch(&contract::id("d"), rich_record("d").activity);
            let before = load(&store, "d").await;
            let during = store.commit((0..5000).map(|n| new(&format!("during-{n}"))).collect());
            let progress = |done, _total| told.store(done, Ordering::Relaxed);
            let (copied, outcomes) = futures_util::future::join(store.backup(&copy, &progress), during).await;
            copied.unwrap();
            assert!(outcomes.iter().all(Result::is_ok));
            assert!(store.backup(&copy, &|_, _| ()).await.is_err(), "a copy never goes over another");
            before
        });
        let copy = open(&copy);
        run(async {
            assert_eq!(load(&copy, "d").await, before);
            assert_eq!(copy.setting("s").await.unwrap().unwrap().value, b"value");
            let document = copy.document(Shelf::Configurations, "c").await.unwrap();
            assert_eq!(document.unwrap().value, b"copied");
            let during = copy.counts().devices - 1;
            assert!(during == 0 || during == 5000, "a batch is in the copy whole or not at all: {during}");
            assert!(told.load(Ordering::Relaxed) >= during + 3);
            create(&copy, &contract::record("later")).await;
        });
    }
}

fn new(id: &str) -> crate::Change {
    crate::Change::Put { record: Box::new(contract::record(id)), expect: Expect::Absent }
}

#[test]
fn a_disk_that_is_nearly_full_refuses_changes_and_serves_reads() {
    let folder = tempfile::tempdir().unwrap();
    let written = rich_record("d");
    run(create(&open(folder.path()), &written));
    let full = Options { reserve_bytes: u64::MAX, ..options() };
    let store = Embedded::open(folder.path(), &full).unwrap();
    run(async {
        let refused = store.commit(vec![new("e")]).await.remove(0);
        let Err(CommitError::Store(StoreError::Unavailable(reason))) = refused else { panic!("{refused:?}") };
        assert!(reason.contains("bytes left"), "{reason}");
        assert_eq!(store.status().refusing_writes, Some(StoreError::Unavailable(reason).to_string()));
        assert_eq!(load(&store, "d").await.unwrap().twin, written.twin);
        assert_eq!(load(&store, "e").await, None);
    });
}

#[test]
fn many_waiting_commits_share_few_syncs() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    run(async {
        let commits = (0..2000).map(|n| store.commit(vec![new(&format!("d{n}"))]));
        let outcomes = futures_util::future::join_all(commits).await;
        assert!(outcomes.iter().flatten().all(Result::is_ok));
    });
    let status = store.status();
    assert_eq!((status.changes, status.waiting), (2000, 0));
    assert!(status.commits < 200, "{} syncs", status.commits);
}

#[test]
fn a_full_queue_makes_commits_wait_not_fail() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(folder.path(), &Options { queue_bytes: 1024, ..options() }).unwrap();
    run(async {
        let commits = (0..100).map(|n| store.commit(vec![new(&format!("d{n}"))]));
        let outcomes = futures_util::future::join_all(commits).await;
        assert!(outcomes.iter().flatten().all(Result::is_ok));
        // Larger than the whole queue.
        let outcomes = store.commit((0..100).map(|n| new(&format!("e{n}"))).collect()).await;
        assert!(outcomes.iter().all(Result::is_ok));
    });
}

fn refusal(path: &Path) -> String {
    Embedded::open(path, &options()).err().unwrap().to_string()
}

#[test]
fn folders_that_cannot_be_used_are_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    drop(open(&path));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700, "it holds keys");
    std::fs::write(path.join("FORMAT"), "ostler-store 2\n").unwrap();
    assert!(refusal(&path).contains("has format 2, this version knows formats up to 1"));
    std::fs::write(path.join("FORMAT"), "something\n").unwrap();
    assert!(refusal(&path).contains("not a store of Ostler"));
    let documents = folder.path().join("documents");
    std::fs::create_dir(&documents).unwrap();
    std::fs::write(documents.join("thesis.txt"), "").unwrap();
    assert!(refusal(&documents).contains("not a store of Ostler"));
    assert!(refusal(&documents.join("thesis.txt")).contains("cannot make the data folder"));
    if !rustix::process::geteuid().is_root() {
        std::fs::set_permissions(&documents, std::fs::Permissions::from_mode(0o500)).unwrap();
        assert!(refusal(&documents.join("store")).contains("this user may not write there"));
    }
}

#[test]
fn a_start_that_was_cut_short_is_started_afresh() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    std::fs::remove_file(folder.path().join("FORMAT")).unwrap();
    std::fs::remove_file(folder.path().join("db/version")).unwrap();
    let store = open(folder.path());
    run(create(&store, &contract::record("d")));
}

#[test]
fn a_folder_in_use_names_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open(folder.path());
    let error = Embedded::open(folder.path(), &options()).err().unwrap();
    assert!(matches!(error, OpenError::InUse { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
}
