//! The embedded engine: the contract on disk and in memory, and what only a disk can do.

use super::{Embedded, Options};
use crate::contract::{self, cases, create, load, rich_record};
use crate::{Expect, OpenError, Store};
use std::future::Future;
use std::path::Path;
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
    let setting = run(async {
        let store = open(folder.path());
        written.revision = create(&store, &written).await;
        let setting = store.put_setting("s", b"value".to_vec(), Expect::Absent).await.unwrap();
        written.activity.last_activity = contract::at(99);
        store.touch(&written.id, written.activity);
        store.close().await;
        setting
    });
    run(async {
        let store = open(folder.path());
        assert_eq!(load(&store, "d").await, Some(written.clone()));
        assert_eq!(store.setting("s").await.unwrap().unwrap().revision, setting);
        assert_eq!(store.counts().devices, 1);
        let next = create(&store, &contract::record("e")).await;
        assert!(next > written.revision.max(setting), "revisions go on where they were");
    });
}

#[test]
fn a_folder_in_use_names_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open(folder.path());
    let error = Embedded::open(folder.path(), &options()).err().unwrap();
    assert!(matches!(error, OpenError::InUse { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
}
