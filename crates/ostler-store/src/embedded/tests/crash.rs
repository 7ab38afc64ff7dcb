//! A process that is killed under load loses nothing that it acknowledged.
//!
//! The parent runs this test binary again as a child that writes through the public door and prints
//! each acknowledged operation; it kills the child after some of them, opens the folder and checks
//! every operation of every round so far. Each id has one writer that does one thing at a time, so an
//! id's state is known exactly: the last acknowledged operation, or the one after it.

use super::{open, run};
use crate::contract::{id, load, one, record, rich_record};
use crate::{Change, Expect, Store};
use ostler_core::id::EntityId;
use ostler_core::record::Record;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

const FOLDER: &str = "OSTLER_TEST_CRASH_FOLDER";
const ROUND: &str = "OSTLER_TEST_CRASH_ROUND";
const ROUNDS: u32 = 20;
const WRITERS: u32 = 32;
/// Every so many operations, an id's record is deleted.
const DELETE_EVERY: u64 = 5;

/// What operation `n` leaves of an id: nothing, or a record that carries `n`.
fn is_delete(n: u64) -> bool {
    n % DELETE_EVERY == DELETE_EVERY - 1
}

fn operation(entity: &EntityId, n: u64) -> Record {
    // Some records are large, so that journals rotate and files are merged between the kills.
    let mut record = if n % 3 == 0 { rich_record(entity.as_str()) } else { record(entity.as_str()) };
    if n % 2 == 0 {
        record.identity.managed_by = Some("x".repeat(24_000).into());
    }
    record.identity.etag = n;
    record
}

const THIS_TEST: &str = "embedded::tests::crash::killed_under_load_nothing_acknowledged_is_lost";

async fn write_for_ever(store: Arc<dyn Store>, entity: EntityId) {
    for n in 0.. {
        let change = match store.load(&entity).await.unwrap() {
            Some(_) if is_delete(n) => Change::DeleteDevice { id: entity.device_id(), expect: None },
            found => Change::Put {
                record: Box::new(operation(&entity, n)),
                expect: found.map_or(Expect::Absent, |record| Expect::Revision(record.revision)),
            },
        };
        one(&*store, change).await.unwrap();
        // One write of less than a pipe's atomic size: a line is there whole or not at all.
        let line = format!("did {entity} {n}\n");
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    }
}

/// What the process does that is going to be killed.
fn write_until_killed(folder: &Path) {
    let round = std::env::var(ROUND).unwrap();
    let store: Arc<dyn Store> = Arc::new(open(folder));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let mut writers = tokio::task::JoinSet::new();
        for n in 0..WRITERS {
            writers.spawn(write_for_ever(store.clone(), id(&format!("round-{round}-{n}"))));
        }
        writers.join_all().await;
    });
}

/// Runs a child until it has acknowledged so many operations; the last one of each id.
fn run_and_kill(folder: &Path, round: u32, acknowledged: usize) -> BTreeMap<String, u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", THIS_TEST, "--nocapture"])
        .env(FOLDER, folder)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut last = BTreeMap::new();
    let mut count = 0;
    for line in lines.map_while(Result::ok) {
        let Some((id, n)) = line.strip_prefix("did ").and_then(|rest| rest.split_once(' ')) else { continue };
        last.insert(id.to_owned(), n.parse().unwrap());
        count += 1;
        if count == acknowledged {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(count >= acknowledged, "the child ended by itself after {count} operations");
    last
}

#[test]
fn killed_under_load_nothing_acknowledged_is_lost() {
    // The process that is killed runs this very test, told so by its environment.
    if let Ok(folder) = std::env::var(FOLDER) {
        return write_until_killed(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut last = BTreeMap::new();
    for round in 0..ROUNDS {
        let acknowledged = 40 + (round as usize * 97) % 700;
        last.append(&mut run_and_kill(folder.path(), round, acknowledged));
        let store = open(folder.path());
        run(async {
            let mut there = 0;
            for (id, acknowledged) in &last {
                let found = load(&store, id).await.map(|record| record.identity.etag);
                there += u64::from(found.is_some());
                let possible = [*acknowledged, acknowledged + 1].map(|n| (!is_delete(n)).then_some(n));
                assert!(possible.contains(&found), "round {round}, {id}: {found:?} after {acknowledged}");
            }
            // Ids whose first operation was under way are the only others.
            let first: u64 = store.counts().devices - there;
            assert!(first <= u64::from(WRITERS * (round + 1)), "{first} unknown devices");
            let listed = store.list_devices(None, usize::MAX).await.unwrap();
            assert_eq!(listed.len() as u64, store.counts().devices);
        });
    }
}
