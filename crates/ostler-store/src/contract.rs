//! What every engine must do, as callable tests.
//!
//! Each case takes an empty store and panics when a promise is broken. An engine's tests run
//! [`cases`] against fresh stores; nothing here knows which engine it is.
//!
//! Must not know: any engine.

mod queries;

use crate::{
    BoxFuture, Change, CommitError, Counts, Expect, Revision, Shelf, Store, StoreError, DOCUMENT_KEY_BYTES,
};
use futures_util::future::{join_all, FutureExt};
use ostler_core::id::{DeviceId, EntityId, ModuleId};
use ostler_core::identity::{FreshSecrets, Identity, IdentitySpec, Status};
use ostler_core::json::Object;
use ostler_core::record::{Activity, Delivery, Interest, Record, Subscriptions};
use ostler_core::time::Timestamp;
use ostler_core::twin::{Reported, SectionPatch, TwinPatch};
use std::sync::Arc;

use queries::{
    aggregates_are_gathered, devices_and_modules_are_asked_apart, pages_follow_each_other_in_any_order,
    queries_see_what_was_acknowledged, what_is_known_of_connections_counts,
};

/// One promise: its name, and the test that takes an empty store.
pub type Case = (&'static str, fn(Arc<dyn Store>) -> BoxFuture<'static, ()>);

macro_rules! cases {
    ($($name:ident),+ $(,)?) => {
        /// Every promise of the port that needs no second look at the same data.
        pub fn cases() -> Vec<Case> {
            vec![$((stringify!($name), |store| Box::pin($name(store)))),+]
        }
    };
}

cases!(
    a_record_reads_as_written,
    an_expectation_guards_every_change,
    a_report_changes_nothing_else,
    changes_of_one_commit_see_each_other_and_stand_alone,
    a_conflict_is_told_when_the_winner_can_be_read,
    a_device_goes_with_its_modules,
    a_new_record_never_meets_an_old_revision,
    devices_are_listed_in_order_page_by_page,
    counts_follow_every_change,
    activity_moves_forward_and_changes_no_revision,
    settings_are_guarded_like_records,
    documents_are_kept_in_order_and_guarded_when_asked,
    changes_together_stand_or_fall_together,
    concurrent_writers_lose_nothing,
    an_abandoned_commit_is_made_all_the_same,
    a_closed_store_refuses_changes,
    queries_see_what_was_acknowledged,
    pages_follow_each_other_in_any_order,
    devices_and_modules_are_asked_apart,
    aggregates_are_gathered,
    what_is_known_of_connections_counts,
);

/// A time that tests may use: 2026-01-01 and some seconds.
pub fn at(secs: i64) -> Timestamp {
    Timestamp::from_unix_secs(1_767_225_600 + secs)
}

/// The id with this text.
pub fn id(text: &str) -> EntityId {
    EntityId::parse(text).expect("tests use valid ids")
}

/// A new record without twin properties.
pub fn record(text: &str) -> Record {
    let fresh = FreshSecrets { primary: [1; 32], secondary: [2; 32], etag_start: 40 };
    let identity = Identity::create(IdentitySpec::default(), &fresh, at(0));
    Record::new(id(text), identity.expect("an empty request is allowed"))
}

/// A record with something in every corner.
pub fn rich_record(text: &str) -> Record {
    let mut record = record(text);
    record.identity.status_reason = Some("because".into());
    record.identity.parent_scopes = vec!["ms-azure-iot-edge://gate-1".into()];
    record.subscriptions = Subscriptions::session().with(Interest::Methods, Some(Delivery::AtLeastOnce));
    record.activity = Activity { connection_updated: at(5), last_activity: at(6) };
    let json = |text: &str| Object::parse(text.as_bytes()).expect("tests use valid JSON");
    let patch = TwinPatch {
        tags: Some(SectionPatch::Merge(json(r#"{"site":{"city":"Zürich","floor":-3},"z":1,"a":2}"#))),
        desired: Some(SectionPatch::Merge(json(r#"{"interval":60,"limits":{"high":81.50,"low":-0.0}}"#))),
    };
    let (twin, _) = record.twin.patch(&patch, at(7)).expect("the patch is allowed");
    let reported = json(r#"{"big":4503599627370495,"e":1.5E+3,"list":[1,"two",{"three":[3.0]},true]}"#);
    record.twin = twin.report(&reported, at(8)).expect("the report is allowed");
    let reported = json(r#"{"e":0.10,"deep":{"a":{"b":{"c":"d"}}},"list":[]}"#);
    record.twin = record.twin.report(&reported, at(9)).expect("the report is allowed");
    record
}

/// Writes one record.
pub async fn put(store: &dyn Store, record: &Record, expect: Expect) -> Result<Revision, CommitError> {
    one(store, Change::Put { record: Box::new(record.clone()), expect }).await
}

/// Creates a record that must not exist yet.
pub async fn create(store: &dyn Store, record: &Record) -> Revision {
    put(store, record, Expect::Absent).await.expect("the record is new")
}

/// Makes one change.
pub async fn one(store: &dyn Store, change: Change) -> Result<Revision, CommitError> {
    let mut outcomes = store.commit(vec![change]).await;
    assert_eq!(outcomes.len(), 1, "one outcome for one change");
    outcomes.remove(0)
}

/// Reads a record that must be readable.
pub async fn load(store: &dyn Store, text: &str) -> Option<Record> {
    store.load(&id(text)).await.expect("the record is readable")
}

fn delete_device(text: &str, expect: Option<Revision>) -> Change {
    Change::DeleteDevice { id: id(text).device_id(), expect }
}

fn delete_module(device: &str, module: &str, expect: Option<Revision>) -> Change {
    let device = DeviceId::new(device).expect("tests use valid ids");
    Change::DeleteModule { device, module: ModuleId::new(module).expect("tests use valid ids"), expect }
}

fn texts(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| record.id.as_str()).collect()
}

async fn a_record_reads_as_written(store: Arc<dyn Store>) {
    assert_eq!(load(&*store, "d").await, None);
    for text in ["d", "d/m"] {
        let mut written = rich_record(text);
        written.revision = create(&*store, &written).await;
        assert_eq!(load(&*store, text).await.as_ref(), Some(&written));
        written.identity.status = Status::Disabled;
        written.twin.model_id = Some("dtmi:com:example:pump;1".into());
        written.revision =
            put(&*store, &written, Expect::Revision(written.revision)).await.expect("unchanged");
        assert_eq!(load(&*store, text).await, Some(written));
    }
}

async fn an_expectation_guards_every_change(store: Arc<dyn Store>) {
    let device = record("d");
    let stale = Expect::Revision(999_999);
    assert_eq!(put(&*store, &device, stale).await, Err(CommitError::Missing));
    assert_eq!(put(&*store, &record("d/m"), Expect::Absent).await, Err(CommitError::NoDevice));
    let revision = create(&*store, &device).await;
    assert_eq!(put(&*store, &device, Expect::Absent).await, Err(CommitError::Exists));
    assert_eq!(put(&*store, &device, stale).await, Err(CommitError::Conflict));
    let newer = put(&*store, &device, Expect::Revision(revision)).await.expect("unchanged");
    assert_ne!(newer, revision);
    assert_eq!(put(&*store, &device, Expect::Revision(revision)).await, Err(CommitError::Conflict));
    assert_eq!(one(&*store, delete_device("d", Some(revision))).await, Err(CommitError::Conflict));
    assert_eq!(one(&*store, delete_module("d", "m", None)).await, Err(CommitError::Missing));
    assert!(one(&*store, delete_device("d", Some(newer))).await.is_ok());
    assert_eq!(one(&*store, delete_device("d", None)).await, Err(CommitError::Missing));
    assert_eq!(load(&*store, "d").await, None);
}

async fn a_report_changes_nothing_else(store: Arc<dyn Store>) {
    assert_eq!(store.load_reported(&id("d")).await, Ok(None));
    for text in ["d", "d/m"] {
        let mut written = rich_record(text);
        written.revision = create(&*store, &written).await;
        let found = store.load_reported(&written.id).await.expect("readable");
        let (revision, reported) = found.expect("it exists");
        assert_eq!((revision, &reported.section), (written.revision, &written.twin.reported));
        let patch = Object::parse(br#"{"list":null,"new":{"deep":1.50}}"#).expect("valid");
        let reported = reported.report(&patch, at(50)).expect("allowed");
        let change =
            |expect| Change::PutReported { id: written.id.clone(), reported: reported.clone(), expect };
        let outcomes = store.commit(vec![change(revision), change(revision)]).await;
        let [Ok(newer), Err(CommitError::Conflict)] = outcomes[..] else { panic!("{outcomes:?}") };
        assert_eq!(one(&*store, change(revision)).await, Err(CommitError::Conflict));
        written.twin = written.twin.clone().report(&patch, at(50)).expect("allowed");
        written.revision = newer;
        assert_eq!(load(&*store, text).await.as_ref(), Some(&written));
        store.touch(&written.id, Activity { connection_updated: at(60), last_activity: at(60) });
    }
    assert!(one(&*store, delete_device("d", None)).await.is_ok());
    let reported = record("d").twin.reported;
    let reported = Reported { twin_version: 3, section: reported };
    let gone = Change::PutReported { id: id("d/m"), reported, expect: 1 };
    assert_eq!(one(&*store, gone).await, Err(CommitError::Missing));
}

async fn changes_of_one_commit_see_each_other_and_stand_alone(store: Arc<dyn Store>) {
    let new = |text| Change::Put { record: Box::new(record(text)), expect: Expect::Absent };
    let outcomes = store
        .commit(vec![
            new("a/early"),
            new("a"),
            new("a/m"),
            new("a"),
            new("b"),
            delete_device("b", None),
            new("b/late"),
            new("c"),
            new("c/m"),
            delete_device("c", None),
            new("c"),
        ])
        .await;
    let kinds: Vec<_> = outcomes.into_iter().map(|outcome| outcome.map(|_| ())).collect();
    let (no_device, exists) = (Err(CommitError::NoDevice), Err(CommitError::Exists));
    let expected = [
        no_device.clone(),
        Ok(()),
        Ok(()),
        exists,
        Ok(()),
        Ok(()),
        no_device,
        Ok(()),
        Ok(()),
        Ok(()),
        Ok(()),
    ];
    assert_eq!(kinds, expected);
    let listed = store.list_devices(None, 10).await.expect("readable");
    assert_eq!(texts(&listed), ["a", "c"]);
    assert!(load(&*store, "a/m").await.is_some() && load(&*store, "c/m").await.is_none());
    assert!(store.commit(Vec::new()).await.is_empty());
}

async fn a_conflict_is_told_when_the_winner_can_be_read(store: Arc<dyn Store>) {
    let mut revision = create(&*store, &record("d")).await;
    for _ in 0..20 {
        let rivals = (0..8).map(|n| {
            let mut mine = record("d");
            mine.identity.etag = n;
            let store = store.clone();
            async move {
                let outcome = put(&*store, &mine, Expect::Revision(revision)).await;
                let seen = load(&*store, "d").await.expect("it exists").revision;
                (outcome, seen)
            }
        });
        let outcomes = join_all(rivals).await;
        let won: Vec<_> = outcomes.iter().filter_map(|(outcome, _)| outcome.as_ref().ok()).collect();
        assert_eq!(won.len(), 1, "one wins");
        assert!(outcomes.iter().all(|(_, seen)| seen == won[0]), "and everyone can read it");
        revision = *won[0];
    }
}

async fn a_device_goes_with_its_modules(store: Arc<dyn Store>) {
    // Ids that sort around "d/": a prefix is not a parent.
    for text in ["d", "d/m1", "d/m2", "d-1", "d-1/m", "d0", "d0/m"] {
        create(&*store, &record(text)).await;
    }
    let modules = store.list_modules(&id("d").device_id()).await.expect("readable");
    assert_eq!(texts(&modules), ["d/m1", "d/m2"]);
    assert!(one(&*store, delete_device("d", None)).await.is_ok());
    for gone in ["d", "d/m1", "d/m2"] {
        assert_eq!(load(&*store, gone).await, None);
    }
    assert!(store.list_modules(&id("d").device_id()).await.expect("readable").is_empty());
    for kept in ["d-1/m", "d0/m"] {
        assert!(load(&*store, kept).await.is_some());
    }
    create(&*store, &record("d")).await;
    assert_eq!(load(&*store, "d/m1").await, None);
}

async fn a_new_record_never_meets_an_old_revision(store: Arc<dyn Store>) {
    let old = create(&*store, &record("d")).await;
    assert!(one(&*store, delete_device("d", Some(old))).await.is_ok());
    let new = create(&*store, &record("d")).await;
    assert!(new > old);
    assert_eq!(put(&*store, &record("d"), Expect::Revision(old)).await, Err(CommitError::Conflict));
}

async fn devices_are_listed_in_order_page_by_page(store: Arc<dyn Store>) {
    let mut ids: Vec<String> = (0..500).map(|n| format!("dev-{}", n * 7919 % 500)).collect();
    let new = |text: &String| Change::Put { record: Box::new(record(text)), expect: Expect::Absent };
    assert!(store.commit(ids.iter().map(new).collect()).await.iter().all(Result::is_ok));
    create(&*store, &record("dev-7/m")).await;
    ids.sort();
    let mut listed = Vec::new();
    let mut after: Option<DeviceId> = None;
    loop {
        let page = store.list_devices(after.as_ref(), 77).await.expect("readable");
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 77);
        after = Some(last.id.device_id());
        listed.extend(page.iter().map(|record| record.id.as_str().to_owned()));
    }
    assert_eq!(listed, ids);
    assert!(store.list_devices(None, 0).await.expect("readable").is_empty());
}

async fn counts_follow_every_change(store: Arc<dyn Store>) {
    let counts = |devices, disabled, modules| Counts { devices, disabled, modules };
    assert_eq!(store.counts(), counts(0, 0, 0));
    let mut device = record("a");
    let revision = create(&*store, &device).await;
    create(&*store, &record("a/m")).await;
    create(&*store, &record("b")).await;
    assert_eq!(store.counts(), counts(2, 0, 1));
    device.identity.status = Status::Disabled;
    put(&*store, &device, Expect::Revision(revision)).await.expect("unchanged");
    assert_eq!(store.counts(), counts(2, 1, 1));
    assert!(put(&*store, &device, Expect::Revision(revision)).await.is_err());
    assert_eq!(store.counts(), counts(2, 1, 1));
    assert!(one(&*store, delete_device("a", None)).await.is_ok());
    assert_eq!(store.counts(), counts(1, 0, 0));
}

async fn activity_moves_forward_and_changes_no_revision(store: Arc<dyn Store>) {
    let activity =
        |connection, last| Activity { connection_updated: at(connection), last_activity: at(last) };
    let nobody = id("nobody");
    store.touch(&nobody, activity(1, 1));
    assert_eq!(load(&*store, "nobody").await, None);
    let mut device = record("d");
    device.revision = create(&*store, &device).await;
    store.touch(&device.id, activity(10, 20));
    store.touch(&device.id, activity(5, 30));
    device.activity = activity(10, 30);
    assert_eq!(load(&*store, "d").await.as_ref(), Some(&device));
    // A change that was decided before the device was seen does not turn its clock back.
    let mut older = device.clone();
    older.activity = activity(1, 40);
    device.revision = put(&*store, &older, Expect::Revision(device.revision)).await.expect("unchanged");
    device.activity = activity(10, 40);
    assert_eq!(load(&*store, "d").await.as_ref(), Some(&device));
    assert!(one(&*store, delete_device("d", None)).await.is_ok());
    create(&*store, &record("d")).await;
    let fresh = load(&*store, "d").await.expect("it exists");
    assert_eq!(fresh.activity, Activity::default());
}

async fn settings_are_guarded_like_records(store: Arc<dyn Store>) {
    let read = |name: &'static str| {
        let store = store.clone();
        async move { store.setting(name).await.expect("readable") }
    };
    assert_eq!(read("policies").await, None);
    let first = store.put_setting("policies", b"one".to_vec(), Expect::Absent).await.expect("new");
    assert_eq!(store.put_setting("policies", vec![], Expect::Absent).await, Err(CommitError::Exists));
    assert_eq!(store.put_setting("none", vec![], Expect::Revision(first)).await, Err(CommitError::Missing));
    let second = store.put_setting("policies", b"two".to_vec(), Expect::Revision(first)).await.expect("same");
    assert_eq!(
        store.put_setting("policies", vec![], Expect::Revision(first)).await,
        Err(CommitError::Conflict)
    );
    let setting = read("policies").await.expect("it exists");
    assert_eq!((setting.value, setting.revision), (b"two".to_vec(), second));
    store.put_setting("empty", Vec::new(), Expect::Absent).await.expect("new");
    assert_eq!(read("empty").await.expect("it exists").value, b"");
}

/// Writes a document.
pub fn put_document(shelf: Shelf, key: &str, value: &str, expect: Option<Expect>) -> Change {
    Change::PutDocument { shelf, key: key.into(), value: value.into(), expect }
}

async fn document(store: &dyn Store, shelf: Shelf, key: &str) -> Option<(String, Revision)> {
    let document = store.document(shelf, key).await.expect("the document is readable")?;
    Some((String::from_utf8(document.value).expect("tests write text"), document.revision))
}

async fn keys(store: &dyn Store, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let page = store.documents(Shelf::DeviceJobs, prefix, after, limit).await.expect("they are readable");
    page.into_iter().map(|(key, _)| key.into()).collect()
}

async fn documents_are_kept_in_order_and_guarded_when_asked(store: Arc<dyn Store>) {
    let put = |key: &str, value: &str| put_document(Shelf::DeviceJobs, key, value, None);
    assert_eq!(document(&*store, Shelf::Jobs, "j").await, None);
    for key in ["j2/a", "j1/b", "j1/a", "j1/c", "j10/a"] {
        one(&*store, put(key, key)).await.expect("nothing guards it");
    }
    assert_eq!(keys(&*store, "j1/", None, 10).await, ["j1/a", "j1/b", "j1/c"]);
    assert_eq!(keys(&*store, "j1/", Some("j1/a"), 1).await, ["j1/b"]);
    assert_eq!(keys(&*store, "j1/", Some("j1/c"), 10).await, [""; 0]);
    assert_eq!(keys(&*store, "j1/", Some("a"), 1).await, ["j1/a"]);
    assert_eq!(keys(&*store, "", None, 10).await, ["j1/a", "j1/b", "j1/c", "j10/a", "j2/a"]);
    assert!(store.documents(Shelf::Jobs, "", None, 10).await.expect("readable").is_empty());
    one(&*store, put("j1/b", "new")).await.expect("nothing guards it");
    assert_eq!(
        document(&*store, Shelf::DeviceJobs, "j1/b").await.map(|(text, _)| text).as_deref(),
        Some("new")
    );
    for _ in 0..2 {
        let delete = Change::DeleteDocument { shelf: Shelf::DeviceJobs, key: "j1/b".into() };
        one(&*store, delete).await.expect("also when it is gone");
    }
    assert_eq!(keys(&*store, "j1/", None, 10).await, ["j1/a", "j1/c"]);

    let guarded = |value: &str, expect| put_document(Shelf::Jobs, "j", value, Some(expect));
    assert_eq!(one(&*store, guarded("1", Expect::Revision(1))).await, Err(CommitError::Missing));
    let first = one(&*store, guarded("1", Expect::Absent)).await.expect("it is new");
    assert_eq!(one(&*store, guarded("2", Expect::Absent)).await, Err(CommitError::Exists));
    let second = one(&*store, guarded("2", Expect::Revision(first))).await.expect("unchanged");
    assert_eq!(one(&*store, guarded("3", Expect::Revision(first))).await, Err(CommitError::Conflict));
    assert_eq!(document(&*store, Shelf::Jobs, "j").await, Some(("2".into(), second)));
    let long = "k".repeat(DOCUMENT_KEY_BYTES + 1);
    assert!(matches!(one(&*store, put(&long, "")).await, Err(CommitError::Store(_))));
}

async fn changes_together_stand_or_fall_together(store: Arc<dyn Store>) {
    let revision = create(&*store, &record("d")).await;
    let mut changed = rich_record("d");
    changed.identity.status = Status::Disabled;
    let with = |expect, key: &str| {
        let put = Change::Put { record: Box::new(changed.clone()), expect: Expect::Revision(expect) };
        Change::Together(vec![put_document(Shelf::DeviceJobs, key, "done", None), put])
    };
    let before = load(&*store, "d").await;
    let outcomes = store
        .commit(vec![
            with(revision + 100, "stale"),
            Change::Together(vec![delete_device("d", None), with(revision, "nested")]),
            with(revision, "good"),
            with(revision, "late"),
        ])
        .await;
    assert_eq!(outcomes[0], Err(CommitError::Conflict));
    assert_eq!(outcomes[1], Err(CommitError::Missing));
    assert!(outcomes[2].is_ok());
    assert_eq!(outcomes[3], Err(CommitError::Conflict));
    assert_eq!(keys(&*store, "", None, 10).await, ["good"]);
    let after = load(&*store, "d").await;
    assert_ne!(after, before);
    assert_eq!(after.map(|record| record.identity.status), Some(Status::Disabled));
    assert_eq!(store.counts(), Counts { devices: 1, disabled: 1, modules: 0 });
}

async fn concurrent_writers_lose_nothing(store: Arc<dyn Store>) {
    create(&*store, &record("d")).await;
    let before = record("d").twin.version;
    let writers = (0..16).map(|_| {
        let store = store.clone();
        async move {
            for _ in 0..10 {
                loop {
                    let mut mine = load(&*store, "d").await.expect("it exists");
                    mine.twin.version += 1;
                    match put(&*store, &mine, Expect::Revision(mine.revision)).await {
                        Ok(_) => break,
                        Err(CommitError::Conflict) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            }
        }
    });
    join_all(writers).await;
    assert_eq!(load(&*store, "d").await.expect("it exists").twin.version, before + 160);
}

async fn an_abandoned_commit_is_made_all_the_same(store: Arc<dyn Store>) {
    let mut abandoned =
        store.commit(vec![Change::Put { record: Box::new(record("d")), expect: Expect::Absent }]);
    // Polled once, it is handed over.
    let _ = (&mut abandoned).now_or_never();
    drop(abandoned);
    // Whatever is committed later comes after it.
    create(&*store, &record("e")).await;
    assert!(load(&*store, "d").await.is_some());
}

async fn a_closed_store_refuses_changes(store: Arc<dyn Store>) {
    create(&*store, &record("d")).await;
    store.close().await;
    store.close().await;
    let refused = put(&*store, &record("e"), Expect::Absent).await;
    assert_eq!(refused, Err(CommitError::Store(StoreError::Closed)));
    store.touch(&id("d"), Activity { connection_updated: at(1), last_activity: at(1) });
    assert!(store.commit(Vec::new()).await.is_empty());
}
