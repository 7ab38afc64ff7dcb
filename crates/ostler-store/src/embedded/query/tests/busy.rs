//! Queries while others write, and while callers go away.

use super::{parse, run, Bounds, NOTHING_AT_ONCE};
use crate::contract::{at, create, id, one, record};
use crate::embedded::Embedded;
use crate::{After, Change, CommitError, Live, NobodyConnected, Order, Plan, Store, StoreError};
use futures_util::FutureExt;
use ostler_core::json::Object;
use ostler_core::query::Presence;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;

fn store(column_bytes: u64) -> Embedded {
    super::store(NOTHING_AT_ONCE, column_bytes)
}

async fn report(store: &Embedded, text: &str, json: &str) {
    let json = Object::parse(json.as_bytes()).unwrap();
    loop {
        let (expect, reported) = store.load_reported(&id(text)).await.unwrap().unwrap();
        let reported = reported.report(&json, at(9)).unwrap();
        match one(store, Change::PutReported { id: id(text), reported, expect }).await {
            Ok(_) => return,
            Err(CommitError::Conflict) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn pages_miss_none_and_repeat_none_while_others_write() {
    for column_bytes in [0, 1 << 20] {
        let store = Arc::new(store(column_bytes));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            let new = |n: usize| Change::Put {
                record: Box::new(record(&format!("d-{n:04}"))),
                expect: crate::Expect::Absent,
            };
            let outcomes = store.commit((0..1500).map(new).collect()).await;
            assert!(outcomes.iter().all(Result::is_ok));
            // Every second one keeps its value; the others come and go and change all the time.
            for n in 0..1500 {
                report(&store, &format!("d-{n:04}"), r#"{"kind":"kept"}"#).await;
            }
            let done = Arc::new(AtomicBool::new(false));
            let writers: Vec<_> = (0..2u64)
                .map(|writer| {
                    let (store, done) = (store.clone(), done.clone());
                    tokio::spawn(async move {
                        let mut n = writer * 2 + 1;
                        while !done.load(Ordering::Relaxed) {
                            n = (n + 4) % 1500;
                            let text = format!("d-{n:04}");
                            let device = id(&text).device_id();
                            one(&*store, Change::DeleteDevice { id: device, expect: None }).await.unwrap();
                            create(&*store, &record(&text)).await;
                            report(&store, &text, r#"{"kind":"other"}"#).await;
                            report(&store, &text, r#"{"kind":"kept"}"#).await;
                        }
                    })
                })
                .collect();
            let (_, filter) = parse("SELECT * FROM devices WHERE properties.reported.kind = 'kept'");
            let filter = Arc::new(filter);
            for limit in [7, 100, 1000] {
                let mut seen = Vec::new();
                let mut after = None;
                loop {
                    let live = Arc::new(NobodyConnected);
                    let found = store.find(filter.clone(), live, Order::ById, after, limit).await.unwrap();
                    seen.extend(found.records.iter().map(|record| record.id.to_string()));
                    after = seen.last().map(|id| After { values: Vec::new(), id: id.as_str().into() });
                    if !found.more {
                        break;
                    }
                }
                let distinct: BTreeSet<_> = seen.iter().cloned().collect();
                assert_eq!(distinct.len(), seen.len(), "none is repeated");
                assert!(seen.is_sorted());
                for n in (0..1500).step_by(2) {
                    assert!(distinct.contains(&format!("d-{n:04}")), "none is missed");
                }
            }
            done.store(true, Ordering::Relaxed);
            for writer in writers {
                writer.await.unwrap();
            }
            assert_eq!(store.model.kept_bytes(), 0, "nothing is kept for snapshots that are closed");
        });
    }
}

#[test]
fn counts_are_of_one_point_while_rows_move_between_groups() {
    let store = Arc::new(store(1 << 20));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        for n in 0..200 {
            create(&*store, &record(&format!("d-{n:03}"))).await;
            report(&store, &format!("d-{n:03}"), r#"{"side":"left"}"#).await;
        }
        let done = Arc::new(AtomicBool::new(false));
        let (mover, told) = (store.clone(), done.clone());
        let writer = tokio::spawn(async move {
            let mut n = 0;
            while !told.load(Ordering::Relaxed) {
                n = (n + 7) % 200;
                let side = if n % 2 == 0 { r#"{"side":"right"}"# } else { r#"{"side":"left"}"# };
                report(&mover, &format!("d-{n:03}"), side).await;
            }
        });
        let (query, filter) = parse(
            "SELECT properties.reported.side AS s, COUNT() AS n FROM devices GROUP BY properties.reported.side",
        );
        let (query, filter) = (Arc::new(query), Arc::new(filter));
        for _ in 0..300 {
            let groups = store.fold(filter.clone(), Arc::new(NobodyConnected), query.clone()).await.unwrap();
            let total: i64 = groups.rows().iter().filter_map(|row| row.get("n")?.as_i64()).sum();
            assert_eq!(total, 200);
        }
        done.store(true, Ordering::Relaxed);
        writer.await.unwrap();
    });
}

/// Stops whoever asks until it is opened.
#[derive(Default)]
struct Gate {
    asked: AtomicU64,
    open: Mutex<bool>,
    opened: Condvar,
}

impl Live for Gate {
    fn presence(&self, _: &str) -> Option<Presence> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut open = self.open.lock();
        while !*open {
            self.opened.wait(&mut open);
        }
        None
    }
}

#[test]
fn a_dropped_query_stops_and_gives_its_turn_back() {
    let store = store(0);
    run(async {
        let new = |n: usize| Change::Put {
            record: Box::new(record(&format!("d-{n:05}"))),
            expect: crate::Expect::Absent,
        };
        assert!(store.commit((0..5000).map(new).collect()).await.iter().all(Result::is_ok));
        let (_, filter) = parse("SELECT * FROM devices WHERE connectionState = 'Connected'");
        let filter = Arc::new(filter);
        let gates: Vec<Arc<Gate>> = (0..64).map(|_| Arc::default()).collect();
        let mut queries: Vec<_> =
            gates.iter().map(|gate| store.find_ids(filter.clone(), gate.clone())).collect();
        for query in &mut queries {
            assert!(query.now_or_never().is_none(), "it runs, or waits for its turn");
        }
        drop(queries);
        for gate in &gates {
            *gate.open.lock() = true;
            gate.opened.notify_all();
        }
        // All turns are free again, or this would wait for ever.
        let found = store.find_ids(filter, Arc::new(NobodyConnected)).await.unwrap();
        assert_eq!(found, []);
        let asked: u64 = gates.iter().map(|gate| gate.asked.load(Ordering::SeqCst)).sum();
        assert!(asked < 64 * 5000 / 2, "scans went on without their callers: {asked} rows");
    });
}

#[test]
fn too_many_waiting_queries_are_refused() {
    let store = store(0);
    run(async {
        create(&store, &record("d")).await;
        let (_, filter) = parse("SELECT * FROM devices WHERE connectionState = 'Connected'");
        let filter = Arc::new(filter);
        let gate = Arc::new(Gate::default());
        let mut queries: Vec<_> = (0..1000).map(|_| store.find_ids(filter.clone(), gate.clone())).collect();
        let outcomes: Vec<_> = queries.iter_mut().map(|query| query.now_or_never()).collect();
        assert!(outcomes.contains(&Some(Err(StoreError::Overloaded))));
        *gate.open.lock() = true;
        gate.opened.notify_all();
        for (query, outcome) in queries.into_iter().zip(outcomes) {
            if outcome.is_none() {
                assert_eq!(query.await, Ok(Vec::new()));
            }
        }
    });
}

#[test]
fn columns_come_when_asked_for_again_and_stay_within_their_bytes() {
    let store = super::store(Bounds { after_scans: 2, ..NOTHING_AT_ONCE }, 24 * 1024);
    run(async {
        for n in 0..300 {
            create(&store, &record(&format!("d-{n:03}"))).await;
            let json = format!(r#"{{"few":{},"many":"value {n}"}}"#, n % 3);
            report(&store, &format!("d-{n:03}"), &json).await;
        }
        let ask = |text: &'static str| {
            let (_, filter) = parse(text);
            let (store, filter) = (&store, Arc::new(filter));
            async move {
                store.find_ids(filter.clone(), Arc::new(NobodyConnected)).await.unwrap();
                store.explain(&filter)
            }
        };
        let few = "SELECT * FROM devices WHERE properties.reported.few = 1";
        assert_eq!(ask(few).await.plan, Plan::Scan);
        let explained = ask(few).await;
        assert_eq!((explained.plan, explained.columns[0].built, explained.rows), (Plan::Columns, true, 300));
        let mixed = "SELECT * FROM devices WHERE properties.reported.few = 1 AND lastActivityTime > '2024'";
        assert_eq!(ask(mixed).await.plan, Plan::ColumnsThenRows);
        // Too large together: the one that was not asked for last makes room.
        let many = "SELECT * FROM devices WHERE properties.reported.many = 'value 7'";
        for _ in 0..3 {
            ask(many).await;
        }
        assert!(store.queries.engine.registry.bytes() <= 24 * 1024);
        let explained = ask("SELECT * FROM devices WHERE deviceId IN ['a', 'b', 'a']").await;
        assert_eq!(explained.plan, Plan::Ids(2));
        let explained = ask("SELECT * FROM devices WHERE STARTSWITH(deviceId, 'd-0')").await;
        assert_eq!(explained.plan, Plan::Prefix("d-0".into()));
    });
}

#[test]
fn idle_columns_are_dropped() {
    let store = store(1 << 20);
    let (_, filter) = parse("SELECT * FROM devices WHERE tags.a = 1");
    let filter = Arc::new(filter);
    run(async {
        create(&store, &record("d")).await;
        store.find_ids(filter.clone(), Arc::new(NobodyConnected)).await.unwrap();
    });
    assert_eq!(store.explain(&filter).plan, Plan::Columns);
    let engine = &store.queries.engine;
    assert!(engine.registry.bytes() > 0);
    let later = std::time::Instant::now() + crate::embedded::COLUMN_IDLE * 2;
    for column in engine.registry.tidy(later) {
        engine.model.drop_column(&column);
    }
    assert_eq!((store.explain(&filter).plan, engine.registry.bytes()), (Plan::Scan, 0));
}
