//! Walks that columns shorten, over a fleet that changes after the walker has begun to look.

use super::Bounds;
use super::{check, check_snapshot, commit, parse, run, store, Records, Thirds, Write, NOTHING_AT_ONCE};
use crate::contract::{at, id as entity};
use crate::embedded::names::Stretch;
use crate::Store;
use ostler_core::record::Activity;
use std::sync::atomic::{AtomicBool, Ordering};

const FLEET: usize = 300;

fn id(n: usize) -> &'static str {
    Box::leak(format!("d-{n:03}").into_boxed_str())
}

fn site(n: usize) -> &'static str {
    [r#"{"site":"Oslo","floor":1}"#, r#"{"site":"Bergen","floor":2}"#, r#"{"floor":3}"#][n % 3]
}

#[test]
fn what_changes_after_the_snapshot_is_neither_missed_nor_added() {
    let bounds = Bounds { walk_at_once: usize::MAX, walk_at_most: usize::MAX, ..NOTHING_AT_ONCE };
    let engines = vec![("walks", store(bounds, 1 << 20))];
    let (_, store) = &engines[0];
    let put = |n: usize, tags| Write::Put { id: id(n), tags, version: 1, disabled: false };
    let mut records = Records::new();
    run(async {
        let fleet: Vec<Write> = (0..FLEET).map(|n| put(n, site(n))).collect();
        commit(&engines, &fleet, &mut records).await;
        for text in [
            "SELECT * FROM devices WHERE tags.site = 'Oslo'",
            "SELECT * FROM devices WHERE tags.floor > 1 AND tags.site IN ['Oslo', 'Bergen']",
        ] {
            // A scan builds the columns; from then on a walk is the cheaper way.
            check("walks", store, text, 7, &records).await;
            let (query, filter) = parse(text);
            assert!(!store.queries.engine.columns(&filter, None).is_empty());
            let (before, asked) = (records.clone(), store.queries.engine.ask(&filter, &Thirds));
            // Some get a value that the query does not want, some one that it wants, some come.
            let changed = (0..FLEET).step_by(2).map(|n| put(n, site(n + 1)));
            let writes: Vec<Write> = changed.chain((FLEET..FLEET + 20).map(|n| put(n, site(n)))).collect();
            commit(&engines, &writes, &mut records).await;
            check_snapshot("walks", &asked, &query, &before, text);
            // And some go.
            let writes: Vec<Write> = (0..FLEET).step_by(10).map(|n| Write::Delete { id: id(n) }).collect();
            commit(&engines, &writes, &mut records).await;
            check_snapshot("walks", &asked, &query, &before, text);
            drop(asked);
            check("walks", store, text, 7, &records).await;
        }
    });
}

/// Two walkers each held a shard that a writer waited for, behind which the other walker had to wait.
#[test]
fn walkers_and_writers_do_not_wait_for_each_other_in_a_circle() {
    let engines = vec![("walks", store(NOTHING_AT_ONCE, 1 << 20))];
    let (_, store) = &engines[0];
    run(async {
        let put = |n: usize| Write::Put { id: id(n), tags: site(n), version: 1, disabled: false };
        let fleet: Vec<Write> = (0..FLEET).map(put).collect();
        commit(&engines, &fleet, &mut Records::new()).await;
    });
    let engine = &store.queries.engine;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let walker = |first: usize| {
            let after = id(first);
            let (mut stretch, mut kept) = (Stretch::default(), Vec::new());
            for _ in 0..700 {
                let snapshot = engine.model.snapshot();
                assert!(snapshot.stretch(false, Some(after), FLEET, &mut stretch).is_some());
                kept.clear();
                snapshot.skim(false, &stretch, &[], &engine.shapes.read(), &mut kept);
                assert_eq!(kept.len(), stretch.len());
                assert!(kept.is_sorted());
            }
        };
        let walkers: Vec<_> = [0, 100, 200].map(|first| scope.spawn(move || walker(first))).into();
        for offset in 0..2 {
            let done = &done;
            scope.spawn(move || {
                for n in (offset..FLEET).step_by(2).cycle().take_while(|_| !done.load(Ordering::Relaxed)) {
                    store.touch(&entity(id(n)), Activity { last_activity: at(9), ..Activity::default() });
                }
            });
        }
        walkers.into_iter().for_each(|walker| walker.join().unwrap());
        done.store(true, Ordering::Relaxed);
    });
}
