//! The engine against core's evaluator: the same records, random writes in between, random queries; with
//! columns, without, and with some of them; now, and as it was at a snapshot.

use super::super::{Embedded, Options};
use super::turns::Running;
use super::{ids_of, number_among, Asking, Bounds, First, Fold, Ids, Tracked};
use crate::contract::{at, id, record};
use crate::query::Standing;
use crate::{After, Change, Expect, Filter, Found, Live, Order, Store};
use ostler_core::json::{Object, Value};
use ostler_core::query::{Collection, Dialect, Direction, Groups, Presence, Query, Row, TwinRow};
use ostler_core::record::{Activity, Record};
use ostler_core::twin::SectionKind;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

mod busy;
mod cases;
mod ranges;
mod skimmed;

pub(super) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Nothing at once, and a column for every path that a scan could use.
pub(super) const NOTHING_AT_ONCE: Bounds = Bounds {
    few_rows: 0,
    few_judged: 0,
    few_values: 0,
    few_left: 0,
    walk_at_once: 1,
    walk_at_most: 3,
    after_scans: 1,
    few_distinct: 0,
};

fn engines() -> Vec<(&'static str, Embedded)> {
    // Little enough to be done by columns, if they are there.
    let by_columns =
        Bounds { few_rows: 0, walk_at_once: 0, walk_at_most: 0, after_scans: 1, ..Bounds::default() };
    [
        ("at once", Bounds::default(), 1 << 20),
        ("scans", NOTHING_AT_ONCE, 0),
        ("columns", NOTHING_AT_ONCE, 1 << 20),
        ("columns at once", by_columns, 1 << 20),
        ("some columns", NOTHING_AT_ONCE, 1500),
        ("walks", Bounds { walk_at_once: 4, walk_at_most: usize::MAX, ..NOTHING_AT_ONCE }, 1 << 20),
    ]
    .map(|(name, bounds, column_bytes)| (name, store(bounds, column_bytes)))
    .into()
}

pub(super) fn store(bounds: Bounds, column_bytes: u64) -> Embedded {
    Embedded::in_memory_bounded(&Options { column_bytes, ..Options::default() }, bounds)
}

/// Every third entity is connected.
struct Thirds;

impl Live for Thirds {
    fn presence(&self, id: &str) -> Option<Presence> {
        let activity = Activity { connection_updated: at(1), last_activity: at(i64::from(id.as_bytes()[0])) };
        (id.bytes().map(u32::from).sum::<u32>() % 3 == 0).then_some(Presence {
            connected: true,
            activity,
            ..Presence::default()
        })
    }
}

fn presence(record: &Record) -> Presence {
    let stored = Presence { activity: record.activity, ..Presence::default() };
    Thirds.presence(record.id.as_str()).unwrap_or(stored)
}

fn row(record: &Record) -> TwinRow<'_> {
    TwinRow { record, presence: presence(record) }
}

type Records = BTreeMap<String, Record>;

/// What core makes of a query.
struct Reference<'a> {
    query: &'a Query,
    filter: &'a Filter,
    records: Vec<&'a Record>,
}

impl<'a> Reference<'a> {
    fn new(query: &'a Query, filter: &'a Filter, records: &'a Records) -> Reference<'a> {
        let is_meant =
            |record: &&Record| record.id.is_module() == filter.modules && filter.keeps(&row(record));
        Reference { query, filter, records: records.values().filter(is_meant).collect() }
    }

    fn ids(&self) -> Vec<String> {
        self.records.iter().map(|record| record.id.to_string()).collect()
    }

    fn ordered(&self) -> Vec<String> {
        let order = order(self.query);
        let mut records = self.records.clone();
        records.sort_by(|left, right| {
            let by_value = match &order {
                Order::ById => std::cmp::Ordering::Equal,
                Order::By(columns) => columns
                    .iter()
                    .map(|(column, direction)| {
                        let by_value = row(left).get(column).order(&row(right).get(column));
                        if *direction == Direction::Descending {
                            by_value.reverse()
                        } else {
                            by_value
                        }
                    })
                    .find(|by_value| by_value.is_ne())
                    .unwrap_or(std::cmp::Ordering::Equal),
            };
            by_value.then_with(|| left.id.as_str().cmp(right.id.as_str()))
        });
        records.iter().map(|record| record.id.to_string()).collect()
    }

    fn groups(&self) -> Vec<Object> {
        let mut groups = Groups::new(self.query);
        for record in &self.records {
            groups.add(&row(record)).unwrap();
        }
        groups.rows()
    }
}

fn order(query: &Query) -> Order {
    if query.order_by.is_empty() || query.is_grouped() {
        Order::ById
    } else {
        Order::By(query.order_by.clone())
    }
}

pub(super) fn parse(text: &str) -> (Query, Filter) {
    let query = Query::parse(text, Dialect::Extended).unwrap_or_else(|error| panic!("{text}: {error}"));
    let filter = Filter { modules: query.from == Collection::Modules, condition: query.condition.clone() };
    (query, filter)
}

/// All pages of a query.
async fn pages(store: &Embedded, filter: &Filter, order: &Order, limit: usize) -> Vec<String> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let filter = Arc::new(filter.clone());
        let found = store.find(filter, Arc::new(Thirds), order.clone(), after, limit).await.unwrap();
        let Found { records, more } = found;
        assert!(records.len() <= limit && (records.len() == limit || !more), "a short page is the last");
        all.extend(records.iter().map(|record| record.id.to_string()));
        let Some(last) = records.last().filter(|_| more) else { return all };
        let columns = match order {
            Order::ById => &[][..],
            Order::By(columns) => columns,
        };
        let values = columns.iter().map(|(column, _)| row(last).value(column)).collect();
        after = Some(After { values, id: last.id.as_str().into() });
    }
}

async fn check(name: &str, store: &Embedded, text: &str, limit: usize, records: &Records) {
    let (query, filter) = parse(text);
    let reference = Reference::new(&query, &filter, records);
    let shared = Arc::new(filter.clone());
    // Twice: the second may find columns that the first has built.
    for _ in 0..2 {
        if query.is_grouped() {
            let groups = store.fold(shared.clone(), Arc::new(Thirds), Arc::new(query.clone())).await.unwrap();
            assert_eq!(groups.rows(), reference.groups(), "{name}: {text}");
        } else {
            let found = pages(store, reference.filter, &order(&query), limit).await;
            assert_eq!(found, reference.ordered(), "{name}: {text}, pages of {limit}");
        }
        let ids = store.find_ids(shared.clone(), Arc::new(Thirds)).await.unwrap();
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        assert_eq!(ids, reference.ids(), "{name}: {text}");
    }
}

/// A query at a snapshot that was opened before the last writes.
fn check_snapshot(name: &str, asked: &super::Asked<'_>, query: &Query, records: &Records, text: &str) {
    let reference = Reference::new(query, asked.filter, records);
    let running = Running::inline();
    let asking = Asking::of_query(query);
    if query.is_grouped() {
        let fold = |columns: &[Arc<Tracked>]| Fold::new(query, number_among(columns, asking.group));
        let sinks = asked.gather_by_scan(&asking, &running, fold).unwrap();
        let groups = Fold::merge(sinks, query, &asked.engine.shapes.read()).unwrap();
        assert_eq!(groups.rows(), reference.groups(), "{name}, earlier: {text}");
    }
    let sinks = asked.gather_by_scan(&Asking::default(), &running, |_| Ids::default()).unwrap();
    let ids: Vec<String> = ids_of(sinks).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(ids, reference.ids(), "{name}, earlier: {text}");
    let columns = asked.engine.columns(asked.filter, None);
    let mut walk = super::Walk::new(asked, &columns, None, usize::MAX - 1);
    walk.go(usize::MAX, &running).unwrap();
    let walked: Vec<_> = walk.found().records.into_iter().map(|record| record.id.to_string()).collect();
    assert_eq!(walked, reference.ids(), "{name}, earlier and walked: {text}");
    let order = order(query);
    let first = asked
        .gather_by_scan(&Asking::of_order(&order), &running, |_| First::new(&order, None, 3))
        .map(|sinks| First::merge(sinks, &order, 3))
        .unwrap();
    let first: Vec<_> = first.iter().map(|Standing { id, .. }| id.to_string()).collect();
    assert_eq!(first, reference.ordered().into_iter().take(3).collect::<Vec<_>>(), "{name}, earlier: {text}");
}

const IDS: [&str; 14] =
    ["a", "a-1", "a-2", "a/m", "a/n", "a-1/m", "b", "b/m", "c", "c-1", "d", "e", "f", "g"];

const TAGS: [&str; 12] = [
    r#"{"site":"Oslo"}"#,
    r#"{"site":"Bergen","floor":2}"#,
    r#"{"site":"oslo","floor":"2"}"#,
    r#"{"Site":"Oslo","floor":2.0}"#,
    r#"{"floor":2.5,"labels":["wet","loud",1]}"#,
    r#"{"floor":-3,"critical":true}"#,
    r#"{"site":null,"critical":false,"FLOOR":7}"#,
    r#"{"floor":{"n":1},"site":{"city":"Oslo"}}"#,
    r#"{"floor":1e1,"labels":[]}"#,
    r#"{"floor":10,"labels":["wet"],"site":"Oslo"}"#,
    r#"{"floor":4503599627370495}"#,
    r#"{}"#,
];

const REPORTED: [&str; 6] = [
    r#"{"temp":20.5,"fw":{"ver":"1.2.0","Ver":"x"}}"#,
    r#"{"temp":"hot","fw":{"ver":"1.10.0"}}"#,
    r#"{"temp":40,"fw":"1.3.0"}"#,
    r#"{"temp":20.50,"fw":{"VER":"9"}}"#,
    r#"{"temp":true}"#,
    r#"{"fw":null,"temp":null}"#,
];

#[derive(Clone, Debug)]
enum Write {
    Put { id: &'static str, tags: &'static str, version: u64, disabled: bool },
    Report { id: &'static str, reported: &'static str },
    Delete { id: &'static str },
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let ids = || prop::sample::select(&IDS[..]);
    let write = prop_oneof![
        4 => (ids(), prop::sample::select(&TAGS[..]), 0..4u64, prop::bool::weighted(0.2))
            .prop_map(|(id, tags, version, disabled)| Write::Put { id, tags, version, disabled }),
        3 => (ids(), prop::sample::select(&REPORTED[..])).prop_map(|(id, reported)| Write::Report { id, reported }),
        1 => ids().prop_map(|id| Write::Delete { id }),
    ];
    prop::collection::vec(write, 1..12)
}

/// Makes the change in the reference; gives the same change for the engines.
fn apply(write: &Write, records: &mut Records) -> Option<Change> {
    let json = |text: &str| Object::parse(text.as_bytes()).unwrap();
    match *write {
        Write::Put { id: text, tags, version, disabled } => {
            if text.split_once('/').is_some_and(|(device, _)| !records.contains_key(device)) {
                return None;
            }
            let old = records.get(text);
            let mut new = old.cloned().unwrap_or_else(|| record(text));
            new.twin.tags = new.twin.tags.clone().replace(SectionKind::Tags, &json(tags), at(3)).unwrap();
            new.twin.version = version;
            if disabled && !new.id.is_module() {
                new.identity.status = ostler_core::identity::Status::Disabled;
                new.identity.status_reason = Some("broken".into());
            }
            let expect = old.map_or(Expect::Absent, |old| Expect::Revision(old.revision));
            records.insert(text.into(), new.clone());
            Some(Change::Put { record: Box::new(new), expect })
        }
        Write::Report { id: text, reported } => {
            let record = records.get_mut(text)?;
            record.twin = record.twin.clone().report(&json(reported), at(4)).unwrap();
            let expect = Expect::Revision(record.revision);
            Some(Change::Put { record: Box::new(record.clone()), expect })
        }
        Write::Delete { id: text } => {
            records.remove(text)?;
            let entity = id(text);
            Some(match entity.module_id() {
                Some(module) => Change::DeleteModule { device: entity.device_id(), module, expect: None },
                None => {
                    records.retain(|id, _| !id.starts_with(&format!("{text}/")));
                    Change::DeleteDevice { id: entity.device_id(), expect: None }
                }
            })
        }
    }
}

/// Applies writes, in one commit if each concerns another id, to all engines and the reference.
async fn commit(engines: &[(&'static str, Embedded)], writes: &[Write], records: &mut Records) {
    for write in writes {
        let Some(change) = apply(write, records) else { continue };
        let written = match &change {
            Change::Put { record, .. } => Some(record.id.to_string()),
            _ => None,
        };
        let mut revisions = Vec::new();
        for (_, store) in engines {
            revisions.push(store.commit(vec![change.clone()]).await.remove(0).unwrap());
        }
        assert!(revisions.windows(2).all(|pair| pair[0] == pair[1]));
        if let Some(record) = written.and_then(|id| records.get_mut(&id)) {
            record.revision = revisions[0];
        }
    }
}

fn columns() -> impl Strategy<Value = &'static str> {
    prop::sample::select(
        &[
            "tags.site",
            "tags.Site",
            "tags.floor",
            "tags.critical",
            "tags.labels",
            "tags.site.city",
            "tags",
            "properties.reported.temp",
            "properties.reported.fw",
            "properties.reported.fw.ver",
            "properties.reported.$version",
            "properties.reported.$metadata.temp.$lastUpdated",
            "properties.desired",
            "deviceId",
            "moduleId",
            "status",
            "statusReason",
            "version",
            "etag",
            "connectionState",
            "lastActivityTime",
            "authenticationType",
            "capabilities.iotEdge",
            "nonsense",
        ][..],
    )
}

fn literals() -> impl Strategy<Value = &'static str> {
    prop::sample::select(
        &[
            "'Oslo'",
            "'oslo'",
            "'a'",
            "'a-1'",
            "'hot'",
            "'1.2.0'",
            "'enabled'",
            "'Connected'",
            "2",
            "2.0",
            "2.5",
            "10",
            "20.5",
            "-3",
            "1",
            "0",
            "true",
            "false",
            "null",
            "undefined",
            "4503599627370495",
            "1e1",
            "4503599627370495.0",
        ][..],
    )
}

fn conditions() -> impl Strategy<Value = String> {
    let compare = prop::sample::select(&["=", "!=", "<", "<=", ">", ">="][..]);
    let leaf = prop_oneof![
        6 => (columns(), compare.clone(), literals()).prop_map(|(c, op, l)| format!("{c} {op} {l}")),
        1 => (literals(), compare.clone(), columns()).prop_map(|(l, op, c)| format!("{l} {op} {c}")),
        1 => (columns(), compare, columns()).prop_map(|(c, op, d)| format!("{c} {op} {d}")),
        2 => (columns(), any::<bool>(), prop::collection::vec(literals(), 0..4)).prop_map(|(c, not, l)| {
            format!("{c} {} [{}]", if not { "NIN" } else { "IN" }, l.join(", "))
        }),
        1 => columns().prop_map(|c| format!("IS_DEFINED({c})")),
        1 => columns().prop_map(|c| format!("STARTSWITH({c}, 'a')")),
        1 => Just("STARTSWITH(deviceId, 'a')".to_owned()),
        1 => Just("deviceId IN ['a', 'a/m', 'b']".to_owned()),
        1 => columns().prop_map(|c| format!("ARRAY_CONTAINS({c}, 'wet')")),
        1 => columns().prop_map(|c| format!("{c} LIKE '%s%'")),
        1 => columns().prop_map(|c| format!("{c} * 2 > 4")),
        1 => columns().prop_map(str::to_owned),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(" AND "))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(" OR "))),
            inner.prop_map(|part| format!("NOT ({part})")),
        ]
    })
}

fn queries() -> impl Strategy<Value = String> {
    let condition = prop::option::weighted(0.85, conditions());
    let from = prop_oneof![3 => Just("devices"), 1 => Just("devices.modules")];
    let shape = prop_oneof![
        2 => Just(("*".to_owned(), String::new())),
        1 => (columns(), any::<bool>()).prop_map(|(column, descending)| {
            ("*".to_owned(), format!(" ORDER BY {column}{}", if descending { " DESC" } else { "" }))
        }),
        1 => Just(("COUNT() AS n".to_owned(), String::new())),
        2 => columns().prop_map(|c| (format!("{c} AS v, COUNT() AS n"), format!(" GROUP BY {c}"))),
        1 => (columns(), columns()).prop_map(|(c, d)| {
            (format!("{c} AS v, SUM({d}) AS s, MAX({d}) AS m"), format!(" GROUP BY {c}"))
        }),
    ];
    (shape, from, condition).prop_map(|((select, rest), from, condition)| {
        let condition = condition.map(|condition| format!(" WHERE {condition}")).unwrap_or_default();
        format!("SELECT {select} FROM {from}{condition}{rest}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn every_way_gives_the_same_answer(
        steps in prop::collection::vec((writes(), prop::collection::vec((queries(), 1..5usize), 1..5)), 1..6),
    ) {
        let engines = engines();
        let mut records = Records::new();
        run(async {
            for (writes, queries) in &steps {
                commit(&engines, writes, &mut records).await;
                for (text, limit) in queries {
                    for (name, store) in &engines {
                        check(name, store, text, *limit, &records).await;
                    }
                }
            }
            // What was there before the last writes is still seen by who looked before.
            let (writes, queries) = &steps[0];
            let before = records.clone();
            for (text, _) in queries {
                let (query, filter) = parse(text);
                let asked: Vec<_> =
                    engines.iter().map(|(_, store)| store.queries.engine.ask(&filter, &Thirds)).collect();
                commit(&engines, writes, &mut records).await;
                for ((name, _), asked) in engines.iter().zip(&asked) {
                    check_snapshot(name, asked, &query, &before, text);
                }
                drop(asked);
                // Whatever was kept for them is gone, and nothing else.
                for (name, store) in &engines {
                    prop_assert_eq!(store.model.kept_bytes(), 0, "{}", name);
                    check(name, store, text, 2, &records).await;
                }
                if records != before {
                    break;
                }
            }
            Ok(())
        })?;
    }
}

/// For `Value` in signatures of the modules below.
pub(super) fn texts(rows: &[Object]) -> Vec<String> {
    rows.iter().map(|row| Value::Object(row.clone()).to_string()).collect()
}
