//! What is accepted as a configuration, whom it targets and which queries count it.

use super::*;
use crate::id::EntityId;
use crate::identity::{FreshSecrets, Identity, IdentitySpec};
use crate::json::{Object, Value};
use crate::query::{project, Collection, Column, Dialect, Presence, Query, Row, Select, TwinRow};
use crate::record::Record;
use crate::time::Timestamp;

const NOW: Timestamp = Timestamp::from_ticks(17_000_000_000_000_000);

fn object(text: &str) -> Object {
    Object::parse(text.as_bytes()).unwrap()
}

fn id(text: &str) -> ConfigurationId {
    ConfigurationId::new(text).unwrap()
}

fn spec(content: &str, condition: &str) -> ConfigurationSpec {
    ConfigurationSpec {
        content: Some(object(content)),
        target_condition: Some(condition.into()),
        ..ConfigurationSpec::default()
    }
}

const DEVICES: &str = r#"{"deviceContent":{"properties.desired.fan":1}}"#;
const MODULES: &str = r#"{"moduleContent":{"properties.desired.fan":1}}"#;
const EDGE: &str = r#"{"modulesContent":{"$edgeAgent":{"properties.desired.fan":1}}}"#;

fn create(spec: ConfigurationSpec) -> Result<Configuration, ConfigurationError> {
    Configuration::create(id("cfg-1"), spec, Dialect::Strict, 0, NOW)
}

fn record(id: &str, iot_edge: bool, tags: &str) -> Record {
    let fresh = FreshSecrets { primary: [1; 32], secondary: [2; 32], etag_start: 1 };
    let spec = IdentitySpec { iot_edge: Some(iot_edge), ..IdentitySpec::default() };
    let mut record = Record::new(EntityId::parse(id).unwrap(), Identity::create(spec, &fresh, NOW).unwrap());
    let patch = crate::twin::SectionPatch::Merge(object(tags));
    let patch = crate::twin::TwinPatch { tags: Some(patch), desired: None };
    record.twin = record.twin.patch(&patch, NOW).unwrap().0;
    record
}

fn is_met(content: &str, condition: &str, record: &Record) -> bool {
    create(spec(content, condition))
        .unwrap()
        .target
        .is_met(&TwinRow { record, presence: Presence::default() })
}

#[test]
fn a_target_is_of_its_kind_and_meets_its_condition() {
    let (device, edge) = (record("d", false, r#"{"a":1}"#), record("e", true, r#"{"a":1}"#));
    let module = record("d/m", false, r#"{"a":1}"#);
    for (content, condition, met) in [
        (DEVICES, "tags.a = 1", [true, true, false]),
        (DEVICES, "tags.a = 2", [false, false, false]),
        (DEVICES, " * ", [true, true, false]),
        (DEVICES, "", [false, false, false]),
        (EDGE, "*", [false, true, false]),
        (EDGE, "tags.a = 1", [false, true, false]),
        (MODULES, "from devices.modules where tags.a = 1", [false, false, true]),
        (MODULES, "FROM devices.modules WHERE moduleId = 'x'", [false, false, false]),
    ] {
        let found = [&device, &edge, &module].map(|record| is_met(content, condition, record));
        assert_eq!(found, met, "{content} {condition}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let refused = |spec| create(spec).unwrap_err().to_string();
    let metrics = |metrics: &[(&str, &str)]| {
        let metrics = metrics.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
        ConfigurationSpec { metrics: Some(metrics), ..spec(DEVICES, "*") }
    };
    let six: Vec<(&str, &str)> = vec![("m", "SELECT * FROM devices"); 6];
    for (spec, reason) in [
        (ConfigurationSpec::default(), "the content is not valid: it is missing"),
        (spec(DEVICES, "tags.a ="), "the target condition is not valid: Line 1:"),
        (spec(MODULES, "*"), "needs \"from devices.modules where"),
        (spec(MODULES, "tags.a = 1"), "the target condition is not valid"),
        (ConfigurationSpec { priority: Some(-1), ..spec(DEVICES, "*") }, "priority is -1"),
        (ConfigurationSpec { priority: Some(1 << 31), ..spec(DEVICES, "*") }, "priority is 2147483648"),
        (metrics(&[("m1", "select")]), "the query of the metric \"m1\" is not valid"),
        (metrics(&[("m1", "SELECT * FROM devices.jobs")]), "not of devices.jobs"),
        (metrics(&six), "the limit is 5"),
    ] {
        let error = refused(spec);
        assert!(error.contains(reason), "{error}");
    }
    assert!(Target::check("from devices.modules where tags.a = 1", Dialect::Strict).is_ok());
    assert!(Target::check("tags.a = 1", Dialect::Strict).is_ok());
    assert!(Target::check("from devices.modules whre", Dialect::Strict).is_err());
}

#[test]
fn an_update_changes_what_it_names_and_never_the_content() {
    let made = create(ConfigurationSpec { priority: Some(3), ..spec(DEVICES, "tags.a = 1") }).unwrap();
    assert_eq!((made.schema_version.as_ref(), made.etag_text()), ("1.0", "MQ==".to_owned()));
    let later = Timestamp::from_ticks(NOW.ticks() + 1);
    let change = ConfigurationSpec {
        labels: Some(vec![("k".into(), "v".into())]),
        content: Some(object(DEVICES)),
        target_condition: Some("".into()),
        ..ConfigurationSpec::default()
    };
    let updated = made.update(change, Dialect::Strict, later).unwrap();
    assert_eq!((updated.priority, updated.target.text(), updated.labels.len()), (3, "", 1));
    assert_eq!((updated.created, updated.updated, updated.etag), (NOW, later, made.etag + 1));
    let other = spec(r#"{"deviceContent":{"properties.desired.fan":2}}"#, "*");
    assert_eq!(made.update(other, Dialect::Strict, later), Err(ConfigurationError::ContentChanged));
}

#[test]
fn the_queries_of_the_system_metrics_can_be_run_again() {
    let queries = |content, condition: &str| {
        let made = create(spec(content, condition)).unwrap();
        let queries = made.target.system_queries(&made.id);
        for (name, text) in &queries {
            let query = Query::parse(text, Dialect::Strict).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(matches!(query.select, Select::Items(_)), "{name}");
            assert_ne!(query.from, Collection::Jobs);
        }
        queries.into_iter().map(|(name, text)| format!("{name}: {text}")).collect::<Vec<_>>()
    };
    assert_eq!(
        queries(DEVICES, "tags.a = 1 OR tags.a = 2"),
        [
            "targetedCount: SELECT deviceId FROM devices WHERE tags.a = 1 OR tags.a = 2",
            "appliedCount: SELECT deviceId FROM devices WHERE configurations.[[cfg-1]].status = 'Applied'",
        ]
    );
    assert_eq!(queries(DEVICES, "*")[0], "targetedCount: SELECT deviceId FROM devices");
    assert_eq!(queries(DEVICES, "")[0], "targetedCount: SELECT deviceId FROM devices WHERE false");
    assert_eq!(
        queries(EDGE, "tags.a = 1 OR tags.a = 2")[0],
        "targetedCount: SELECT deviceId FROM devices WHERE capabilities.iotEdge = true AND (tags.a = 1 OR tags.a = 2)"
    );
    assert_eq!(queries(EDGE, "*").len(), 4);
    assert_eq!(
        queries(MODULES, "from devices.modules where tags.a = 1")[0],
        "targetedCount: SELECT deviceId, moduleId from devices.modules where tags.a = 1"
    );
    assert_eq!(queries(MODULES, "").len(), 2);
}

#[test]
fn a_twin_row_shows_its_configurations() {
    let mut record = record("d", false, "{}");
    let value = |record: &Record, path: &str| {
        let column = Column::parse(path).unwrap();
        TwinRow { record, presence: Presence::default() }.value(&column).map(|value| value.to_string())
    };
    assert_eq!(value(&record, "configurations"), None);
    record.configurations = vec![
        Assignment { id: id("cfg-1"), state: State::Applied(Applied::default()) },
        Assignment { id: id("cfg-2"), state: State::Targeted },
    ];
    let all = r#"{"cfg-1":{"status":"Applied"},"cfg-2":{"status":"Targeted"}}"#;
    assert_eq!(value(&record, "configurations").as_deref(), Some(all));
    assert_eq!(value(&record, "configurations.[[cfg-2]].Status").as_deref(), Some(r#""Targeted""#));
    assert_eq!(value(&record, "configurations.[[cfg-3]].status"), None);
    let text = "SELECT configurations.[[cfg-1]].status AS s FROM devices WHERE IS_DEFINED(configurations)";
    let query = Query::parse(text, Dialect::Strict).unwrap();
    let row = TwinRow { record: &record, presence: Presence::default() };
    assert_eq!(query.condition.as_ref().and_then(|condition| condition.truth(&row)), Some(true));
    let Select::Items(items) = &query.select else { panic!("a list") };
    let row = project(&record, Presence::default(), items);
    assert_eq!(Value::Object(row).to_string(), r#"{"s":"Applied"}"#);
}
