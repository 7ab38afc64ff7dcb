//! The promises about queries.
//!
//! Must not know: any engine.

use super::{at, create, delete_device, delete_module, load, one, put, record, texts};
use crate::{After, Expect, Filter, Found, Live, NobodyConnected, Order, Store};
use ostler_core::json::{Object, Value};
use ostler_core::query::{Collection, Dialect, Presence, Query, Row, TwinRow};
use ostler_core::record::{Activity, Record};
use ostler_core::twin::SectionKind;
use std::sync::Arc;

/// A device or module with these tags.
fn tagged(text: &str, tags: &str) -> Record {
    let mut record = record(text);
    let tags = Object::parse(tags.as_bytes()).expect("tests use valid JSON");
    record.twin.tags = record.twin.tags.replace(SectionKind::Tags, &tags, at(1)).expect("allowed");
    record
}

fn parse(text: &str) -> (Arc<Query>, Arc<Filter>) {
    let query = Query::parse(text, Dialect::Extended).expect("tests use valid queries");
    let filter = Filter { modules: query.from == Collection::Modules, condition: query.condition.clone() };
    (Arc::new(query), Arc::new(filter))
}

async fn ids(store: &dyn Store, text: &str) -> Vec<String> {
    let (_, filter) = parse(text);
    let live = Arc::new(NobodyConnected);
    let ids = store.find_ids(filter.clone(), live.clone()).await.expect("answered");
    let found = store.find(filter, live, Order::ById, None, 1000).await.expect("answered");
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    assert_eq!(texts(&found.records), ids, "both ways find the same");
    assert!(!found.more);
    ids
}

async fn rows(store: &dyn Store, text: &str) -> Vec<String> {
    let (query, filter) = parse(text);
    let groups = store.fold(filter, Arc::new(NobodyConnected), query).await.expect("answered");
    groups.rows().into_iter().map(|row| Value::Object(row).to_string()).collect()
}

pub(super) async fn queries_see_what_was_acknowledged(store: Arc<dyn Store>) {
    const OSLO: &str = "SELECT * FROM devices WHERE tags.site = 'Oslo'";
    assert_eq!(ids(&*store, OSLO).await, [""; 0]);
    for n in 0..20 {
        let text = format!("d-{n:02}");
        create(&*store, &tagged(&text, r#"{"site":"Oslo"}"#)).await;
        assert_eq!(ids(&*store, OSLO).await.len(), n + 1);
    }
    for n in 0..20 {
        let text = format!("d-{n:02}");
        if n % 2 == 0 {
            let revision = load(&*store, &text).await.expect("it exists").revision;
            let moved = tagged(&text, r#"{"site":"Bergen"}"#);
            put(&*store, &moved, Expect::Revision(revision)).await.expect("unchanged");
        } else {
            one(&*store, delete_device(&text, None)).await.expect("it exists");
        }
        assert_eq!(ids(&*store, OSLO).await.len(), 19 - n);
    }
    assert_eq!(ids(&*store, "SELECT * FROM devices").await.len(), 10);
    let (_, filter) = parse("SELECT * FROM devices WHERE deviceId IN ['d-04', 'd-05', 'd-06', 'D-08']");
    let live = Arc::new(NobodyConnected);
    let found = store.find(filter.clone(), live, Order::ById, None, 10).await.expect("answered");
    assert_eq!(texts(&found.records), ["d-04", "d-06"]);
    assert_eq!(Some(&found.records[0]), load(&*store, "d-04").await.as_ref());
    assert_eq!(store.explain(&filter).rows, 10);
}

pub(super) async fn pages_follow_each_other_in_any_order(store: Arc<dyn Store>) {
    for n in 0..50 {
        let tags = match n % 5 {
            0 => "{}".to_owned(),
            1 => format!(r#"{{"floor":{}}}"#, n % 3),
            2 => format!(r#"{{"floor":{}.0}}"#, n % 3),
            3 => format!(r#"{{"floor":"{}"}}"#, n % 4),
            _ => r#"{"floor":true}"#.to_owned(),
        };
        create(&*store, &tagged(&format!("d-{n:02}"), &tags)).await;
    }
    for text in [
        "SELECT * FROM devices",
        "SELECT * FROM devices ORDER BY tags.floor",
        "SELECT * FROM devices ORDER BY tags.floor DESC",
        "SELECT * FROM devices WHERE tags.floor > 0 ORDER BY tags.floor DESC, deviceId DESC",
    ] {
        let (query, filter) = parse(text);
        let order = match query.order_by.as_slice() {
            [] => Order::ById,
            columns => Order::By(columns.to_vec()),
        };
        let all = page(&*store, &filter, &order, None, 100).await;
        assert!(!all.more);
        for limit in [1, 7, 25] {
            let mut seen: Vec<Record> = Vec::new();
            let mut more = true;
            while more {
                let after = seen.last().map(|last| after(last, &query));
                let found = page(&*store, &filter, &order, after, limit).await;
                assert!(found.records.len() == limit || !found.more, "only the last page is short");
                more = found.more;
                seen.extend(found.records);
            }
            assert_eq!(texts(&seen), texts(&all.records), "{text}, {limit} a page");
        }
        assert_eq!(page(&*store, &filter, &order, None, 0).await.records, []);
    }
}

async fn page(
    store: &dyn Store,
    filter: &Arc<Filter>,
    order: &Order,
    after: Option<After>,
    limit: usize,
) -> Found {
    let found = store.find(filter.clone(), Arc::new(NobodyConnected), order.clone(), after, limit);
    found.await.expect("answered")
}

fn after(last: &Record, query: &Query) -> After {
    let row = TwinRow { record: last, presence: Presence::default() };
    let values = query.order_by.iter().map(|(column, _)| row.value(column)).collect();
    After { values, id: last.id.as_str().into() }
}

pub(super) async fn devices_and_modules_are_asked_apart(store: Arc<dyn Store>) {
    for text in ["a", "a/m1", "a/m2", "a-1", "a-1/m1", "b"] {
        create(&*store, &tagged(text, r#"{"of":"all"}"#)).await;
    }
    let all = "WHERE tags.of = 'all'";
    assert_eq!(ids(&*store, &format!("SELECT * FROM devices {all}")).await, ["a", "a-1", "b"]);
    let modules = format!("SELECT * FROM devices.modules {all}");
    assert_eq!(ids(&*store, &modules).await, ["a-1/m1", "a/m1", "a/m2"]);
    let of_one = "SELECT * FROM devices.modules WHERE deviceId = 'a'";
    assert_eq!(ids(&*store, of_one).await, ["a/m1", "a/m2"]);
    let starting = "SELECT * FROM devices.modules WHERE STARTSWITH(deviceId, 'a')";
    assert_eq!(ids(&*store, starting).await, ["a-1/m1", "a/m1", "a/m2"]);
    assert_eq!(ids(&*store, "SELECT * FROM devices WHERE STARTSWITH(deviceId, 'a')").await, ["a", "a-1"]);
    one(&*store, delete_module("a", "m1", None)).await.expect("it exists");
    assert_eq!(ids(&*store, of_one).await, ["a/m2"]);
    one(&*store, delete_device("a", None)).await.expect("it exists");
    assert_eq!(ids(&*store, &modules).await, ["a-1/m1"]);
}

pub(super) async fn aggregates_are_gathered(store: Arc<dyn Store>) {
    let count = "SELECT COUNT() AS n FROM devices WHERE tags.floor > 1";
    assert_eq!(rows(&*store, count).await, [r#"{"n":0}"#]);
    for (text, tags) in [
        ("a", r#"{"site":"Oslo","floor":1}"#),
        ("b", r#"{"site":"Oslo","floor":2.0}"#),
        ("c", r#"{"site":"Bergen","floor":2}"#),
        ("d", r#"{"floor":3.5}"#),
    ] {
        create(&*store, &tagged(text, tags)).await;
    }
    assert_eq!(rows(&*store, count).await, [r#"{"n":3}"#]);
    assert_eq!(
        rows(&*store, "SELECT tags.site AS s, COUNT() AS n FROM devices GROUP BY tags.site").await,
        [r#"{"n":1}"#, r#"{"s":"Bergen","n":1}"#, r#"{"s":"Oslo","n":2}"#]
    );
    assert_eq!(
        rows(&*store, "SELECT tags.floor AS f, COUNT() AS n FROM devices GROUP BY tags.floor").await,
        [r#"{"f":1,"n":1}"#, r#"{"f":2,"n":2}"#, r#"{"f":3.5,"n":1}"#]
    );
    let sums = "SELECT SUM(tags.floor) AS s, MAX(tags.floor) AS m FROM devices WHERE IS_DEFINED(tags.site)";
    assert_eq!(rows(&*store, sums).await, [r#"{"s":5,"m":2}"#]);
}

/// Only `b` is connected.
struct B;

impl Live for B {
    fn presence(&self, id: &str) -> Option<Presence> {
        let activity = Activity { connection_updated: at(50), last_activity: at(60) };
        (id == "b").then_some(Presence { connected: true, activity, ..Presence::default() })
    }
}

pub(super) async fn what_is_known_of_connections_counts(store: Arc<dyn Store>) {
    for text in ["a", "b", "c"] {
        let mut record = record(text);
        record.activity.last_activity = at(if text == "c" { 70 } else { 5 });
        create(&*store, &record).await;
    }
    let find = |text: &str| {
        let (_, filter) = parse(text);
        let store = store.clone();
        async move {
            let ids = store.find_ids(filter, Arc::new(B)).await.expect("answered");
            ids.iter().map(ToString::to_string).collect::<Vec<_>>()
        }
    };
    assert_eq!(find("SELECT * FROM devices WHERE connectionState = 'Connected'").await, ["b"]);
    assert_eq!(find("SELECT * FROM devices WHERE connectionState = 'Disconnected'").await, ["a", "c"]);
    let since = format!("SELECT * FROM devices WHERE lastActivityTime >= '{}'", at(60));
    assert_eq!(find(&since).await, ["b", "c"]);
}
