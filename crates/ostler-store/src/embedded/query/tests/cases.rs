//! The sample rows and expected answers of query §10, through every way that the engine has.

use super::{engines, order, parse, run, texts};
use crate::contract::create;
use crate::{Filter, Live, Store};
use ostler_core::query::{project, Collection, Dialect, Presence, Query, Select};
use ostler_core::record::Record;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[path = "../../../../../ostler-core/tests/query/fixtures.rs"]
mod fixtures;
use fixtures::{sorted, Expected};

struct Known(BTreeMap<String, Presence>);

impl Live for Known {
    fn presence(&self, id: &str) -> Option<Presence> {
        self.0.get(id).copied()
    }
}

#[test]
fn all_cases_of_the_reference() {
    let fixtures = fixtures::load();
    let all: Vec<&(Record, Presence)> = fixtures.devices.iter().chain(&fixtures.modules).collect();
    let live = all.iter().map(|(record, presence)| (record.id.to_string(), *presence)).collect();
    let live: Arc<dyn Live> = Arc::new(Known(live));
    let mut asked = 0;
    for (name, store) in engines() {
        run(async {
            for (record, _) in &all {
                create(&store, record).await;
            }
            // The second time, columns are there.
            for case in fixtures.cases.iter().chain(&fixtures.cases) {
                let Ok(query) = Query::parse(&case.query, Dialect::Extended) else { continue };
                if query.from == Collection::Jobs || case.extended == Expected::Refused {
                    continue;
                }
                asked += 1;
                let answer = answer(&store, &live, &case.query).await;
                assert_eq!(answer, case.extended, "{name}: {}", case.query);
            }
        });
    }
    assert!(asked > 500, "{asked} cases are about twins");
}

async fn answer(store: &dyn Store, live: &Arc<dyn Live>, text: &str) -> Expected {
    let (query, filter): (Query, Filter) = parse(text);
    let filter = Arc::new(filter);
    if query.is_grouped() {
        let groups = store.fold(filter, live.clone(), Arc::new(query)).await.unwrap();
        return Expected::Rows(sorted(texts(&groups.rows())));
    }
    let order = order(&query);
    let found = store.find(filter, live.clone(), order, None, 1000).await.unwrap();
    match &query.select {
        Select::All => {
            let ids: BTreeSet<String> = found.records.iter().map(|record| record.id.to_string()).collect();
            Expected::Ids("Twin".into(), ids)
        }
        Select::Items(items) => {
            let row = |record: &Record| {
                let stored = Presence { activity: record.activity, ..Presence::default() };
                let presence = live.presence(record.id.as_str()).unwrap_or(stored);
                project(record, presence, items)
            };
            Expected::Rows(sorted(texts(&found.records.iter().map(row).collect::<Vec<_>>())))
        }
    }
}
