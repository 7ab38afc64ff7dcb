//! The 68 cases of query §10 through the door, in both dialects, in pages of every size. Rows of `devices.jobs` are held to
//! them in the hub, where they can be made.

#[path = "../../../../ostler-core/tests/query/fixtures.rs"]
mod fixtures;

use super::harness::TestHub;
use super::query::ask;
use fixtures::{load, sorted, Case, Expected};
use ostler_core::auth::Credential;
use ostler_core::id::EntityId;
use ostler_core::identity::SymmetricKey;
use ostler_core::json::{Object, Value};
use ostler_core::query::{Collection, Dialect, Presence, Query};
use ostler_core::record::Record;
use ostler_core::sas::sign;
use ostler_hub::access::{ConnectRequest, Peer};
use ostler_hub::session::Session;
use ostler_store::{Change, Expect};

/// Puts the sample in the store, and connects what is connected in it.
async fn fill(hub: &TestHub) -> Vec<Session> {
    // The sample has twins of configurations that are not here; what looks at them at the start would clean them.
    hub.running.app().hub.configurations_settled().await;
    let sample = load();
    let mut sessions = Vec::new();
    for (record, presence) in sample.devices.into_iter().chain(sample.modules) {
        let id = record.id.clone();
        put(hub, record).await;
        if presence.connected {
            sessions.push(connect(hub, &id, presence).await);
        }
    }
    sessions
}

async fn put(hub: &TestHub, record: Record) {
    let change = Change::Put { record: Box::new(record), expect: Expect::Absent };
    let outcomes = hub.running.app().hub.store().commit(vec![change]).await;
    assert!(outcomes[0].is_ok(), "{outcomes:?}");
}

async fn connect(hub: &TestHub, id: &EntityId, presence: Presence) -> Session {
    let hub = &hub.running.app().hub;
    let key = SymmetricKey::new(&[1; 32]).unwrap();
    let token = sign(&format!("localhost/devices/{id}"), &key, hub.now().plus_secs(3600), None);
    let credential = Credential { token: Some(&token), certificate: None };
    let peer = Peer { addr: None, transport: "test" };
    let request = ConnectRequest { clean_session: true, model_id: None, peer };
    let session = hub.connect(id, credential, request).await.unwrap();
    session.state().note_activity(presence.activity.last_activity);
    session
}

/// The answer of all pages together.
async fn answer(hub: &TestHub, text: &str, size: &str) -> Expected {
    let (mut rows, mut token) = (Vec::new(), None::<String>);
    let kind = loop {
        let mut headers = vec![("x-ms-max-item-count", size)];
        headers.extend(token.as_deref().map(|token| ("x-ms-continuation", token)));
        let page = ask(hub, text, &headers).await;
        if page.status == 400 {
            return Expected::Refused;
        }
        assert_eq!(page.status, 200, "{text}: {}", page.body);
        let Value::Array(objects) = Value::parse(page.body.as_bytes()).unwrap() else {
            panic!("{}", page.body)
        };
        assert!(objects.len() <= size.parse().unwrap() && (token.is_none() || !objects.is_empty()), "{text}");
        rows.extend(objects);
        token = page.header("x-ms-continuation").map(str::to_owned);
        if token.is_none() {
            break page.header("x-ms-item-type").unwrap().to_owned();
        }
    };
    if kind == "Raw" {
        return Expected::Rows(sorted(rows.iter().map(Value::to_string)));
    }
    Expected::Ids(kind, rows.iter().filter_map(Value::as_object).map(id).collect())
}

fn id(row: &Object) -> String {
    let text = |name: &str| row.get(name).and_then(Value::as_str);
    match (text("jobId"), text("deviceId"), text("moduleId")) {
        (Some(job), Some(device), _) => format!("{job}/{device}"),
        (None, Some(device), Some(module)) => format!("{device}/{module}"),
        (None, Some(device), None) => device.to_owned(),
        _ => panic!("a row without an id"),
    }
}

/// Whether the rows asked for are in the store.
fn is_here(case: &Case) -> bool {
    !Query::parse(&case.query, Dialect::Extended).is_ok_and(|query| query.from == Collection::Jobs)
}

async fn check(hub: &TestHub, expected: impl Fn(&Case) -> Expected) {
    let _sessions = fill(hub).await;
    let mut checked = 0;
    for case in load().cases.iter().filter(|case| is_here(case) || expected(case) == Expected::Refused) {
        for size in ["1", "2", "100"] {
            assert_eq!(answer(hub, &case.query, size).await, expected(case), "{} by {size}", case.query);
        }
        checked += 1;
    }
    assert!(checked >= 62, "only {checked} cases");
}

#[tokio::test]
async fn all_cases_of_the_reference() {
    check(&TestHub::start().await, |case| case.extended.clone()).await;
}

#[tokio::test]
async fn all_cases_of_the_reference_as_the_service_answers_them() {
    check(&TestHub::strict().await, |case| case.strict.clone()).await;
}
