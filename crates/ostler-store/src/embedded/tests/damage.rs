//! Damaged files: torn ends are cut, anything else is reported and never served.

use super::{new, open, options, run};
use crate::contract::{create, id, load, one, record};
use crate::embedded::disk::{Batch, Disk, Kind};
use crate::{Change, CommitError, Embedded, Expect, OpenError, Store, StoreError};
use std::path::{Path, PathBuf};

const DEVICES: u64 = 20;

/// A folder with devices `d0` to `d19`, each acknowledged by a batch of its own, all in one journal.
fn filled() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    run(async {
        for n in 0..DEVICES {
            create(&store, &record(&format!("d{n}"))).await;
        }
    });
    folder
}

fn journal(folder: &Path) -> PathBuf {
    folder.join("db/0.jnl")
}

/// The journal without the hole at its end.
fn journal_bytes(folder: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(journal(folder)).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    bytes.truncate(used);
    bytes
}

/// Where each batch of the journal starts.
fn batches(bytes: &[u8]) -> Vec<usize> {
    let ends = memchr::memmem::find_iter(bytes, b"FJL\x03").map(|at| at + 4);
    std::iter::once(0).chain(ends).collect()
}

fn devices(folder: &Path) -> u64 {
    open(folder).counts().devices
}

#[test]
fn an_end_that_was_torn_is_cut_wherever_it_tore() {
    let folder = filled();
    let whole = journal_bytes(folder.path());
    let starts = batches(&whole);
    let last = starts[starts.len() - 2];
    // What a power cut may leave of the last batch: its beginning, then nothing or zeros; or its end
    // without its beginning, because a later page reached the disk first.
    let ends = (last..whole.len()).step_by(37);
    let cut = ends.clone().map(|end| whole[..end].to_vec());
    let zeros = ends.clone().map(|end| [&whole[..end], &[0; 5000]].concat());
    let holes = ends.map(|end| {
        let mut torn = whole.clone();
        torn[last..end.max(last + 1)].fill(0);
        torn
    });
    for torn in cut.chain(zeros).chain(holes) {
        std::fs::write(journal(folder.path()), &torn).unwrap();
        assert_eq!(devices(folder.path()), DEVICES - 1);
        let store = open(folder.path());
        run(create(&store, &record("after")));
        drop(store);
        assert_eq!(devices(folder.path()), DEVICES);
    }
}

#[test]
fn a_flipped_bit_before_the_end_is_never_taken_for_a_torn_end() {
    let folder = filled();
    let whole = journal_bytes(folder.path());
    let starts = batches(&whole);
    let last = starts[starts.len() - 2];
    for at in (0..last).step_by(41) {
        let mut bad = whole.clone();
        bad[at] ^= 0x10;
        std::fs::write(journal(folder.path()), &bad).unwrap();
        let Err(error) = Embedded::open(folder.path(), &options()) else { panic!("byte {at} of {starts:?}") };
        assert!(matches!(error, OpenError::Journal { .. }), "byte {at}: {error}");
        assert!(error.to_string().contains("0.jnl is damaged at byte"), "{error}");
        assert_eq!(std::fs::read(journal(folder.path())).unwrap(), bad, "nothing is changed");
    }
    std::fs::write(journal(folder.path()), &whole).unwrap();
    assert_eq!(devices(folder.path()), DEVICES);
}

/// Writes below the store, as a damaged disk would.
fn write_raw(folder: &Path, kind: Kind, name: &[u8], value: &[u8]) {
    let mut disk = Disk::open(&folder.join("db"), options().sizes()).unwrap();
    let mut batch = Batch::new();
    batch.put(kind, name, value);
    disk.write(batch).unwrap();
}

fn read_raw(folder: &Path, kind: Kind, name: &[u8]) -> Vec<u8> {
    let disk = Disk::open(&folder.join("db"), options().sizes()).unwrap();
    let entries = disk.entries().map(Result::unwrap);
    let mut found = entries.filter(|entry| (entry.kind, entry.name()) == (kind, name));
    found.next().unwrap().value.to_vec()
}

#[test]
fn a_damaged_record_is_named_not_served_and_can_be_deleted() {
    let folder = filled();
    let mut bytes = read_raw(folder.path(), Kind::Record, b"d3");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    write_raw(folder.path(), Kind::Record, b"d3", &bytes);
    let other = read_raw(folder.path(), Kind::Record, b"d4");
    write_raw(folder.path(), Kind::Record, b"d5", &other);
    let store = open(folder.path());
    run(async {
        for damaged in ["d3", "d5"] {
            let error = store.load(&id(damaged)).await.unwrap_err();
            assert!(matches!(&error, StoreError::Corrupt { id, .. } if id == damaged), "{error}");
            assert_eq!(store.commit(vec![new(damaged)]).await, [Err(CommitError::Exists)]);
        }
        assert_eq!(store.counts().devices, DEVICES - 2);
        assert!(load(&store, "d4").await.is_some());
        for damaged in ["d3", "d5"] {
            one(&store, Change::DeleteDevice { id: id(damaged).device_id(), expect: None }).await.unwrap();
            create(&store, &record(damaged)).await;
        }
    });
    drop(store);
    assert_eq!(devices(folder.path()), DEVICES);
}

#[test]
fn a_damaged_setting_or_shape_stops_the_start() {
    let folder = filled();
    let store = open(folder.path());
    run(store.put_setting("policies", b"secret".to_vec(), Expect::Absent)).unwrap();
    drop(store);
    let shape = 0u32.to_be_bytes();
    for (kind, name) in [(Kind::Setting, &b"policies"[..]), (Kind::Shape, &shape[..])] {
        let good = read_raw(folder.path(), kind, name);
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        write_raw(folder.path(), kind, name, &bad);
        let error = Embedded::open(folder.path(), &options()).err().unwrap();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        write_raw(folder.path(), kind, name, &good);
        assert_eq!(devices(folder.path()), DEVICES);
    }
}

#[test]
fn a_flipped_bit_in_a_sorted_file_is_never_served() {
    let folder = tempfile::tempdir().unwrap();
    // A copy goes straight to sorted files.
    let source = Embedded::in_memory();
    run(async {
        let devices = (0..200).map(|n| new(&format!("d{n}"))).collect();
        assert!(source.commit(devices).await.iter().all(Result::is_ok));
        source.backup(&folder.path().join("copy"), &|_, _| ()).await.unwrap();
    });
    let tables = folder.path().join("copy/db/keyspaces/1/tables");
    let table = std::fs::read_dir(tables).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&table).unwrap();
    for at in (0..whole.len()).step_by(997) {
        let mut bad = whole.clone();
        bad[at] ^= 4;
        std::fs::write(&table, &bad).unwrap();
        // Refused, or unharmed: some bytes carry no records.
        if let Ok(store) = Embedded::open(&folder.path().join("copy"), &options()) {
            run(async {
                for n in 0..200 {
                    let text = format!("d{n}");
                    let mut served = load(&store, &text).await.unwrap();
                    served.revision = 0;
                    assert_eq!(served, record(&text), "byte {at}");
                }
            });
        }
    }
}
