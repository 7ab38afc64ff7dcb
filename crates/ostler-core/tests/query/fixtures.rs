//! The sample rows and expected answers of query §10, read from `tests/data/query.jsonl`.
//!
//! Tests of other crates include this file by its path, so that every engine and door is held to the same cases.
//!
//! Must not know: how a query is answered.

#![allow(dead_code)] // each crate uses what it needs

use ostler_core::configuration::{Assignment, ConfigurationId, State};
use ostler_core::id::EntityId;
use ostler_core::identity::{
    Authentication, AuthenticationSpec, FreshSecrets, Identity, IdentitySpec, Status, Thumbprint,
};
use ostler_core::json::{Object, Value};
use ostler_core::query::{Column, Datum, Field, JobField, Presence, Row};
use ostler_core::record::{Activity, Record};
use ostler_core::time::Timestamp;
use ostler_core::twin::{Member, Node, Section, SectionKind, Twin};
use std::collections::BTreeSet;

const TEXT: &str = include_str!("../data/query.jsonl");
const NOW: Timestamp = Timestamp::from_unix_secs(1_714_521_600);

/// Rows and cases.
pub struct Fixtures {
    pub devices: Vec<(Record, Presence)>,
    pub modules: Vec<(Record, Presence)>,
    pub jobs: Vec<JobJson>,
    pub cases: Vec<Case>,
}

/// A query and its answer in each dialect.
pub struct Case {
    pub query: String,
    pub strict: Expected,
    pub extended: Expected,
    /// Whether the rule behind it is not proven by the reference service.
    pub unverified: bool,
}

/// What must come back.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// The item type, and the rows' ids: device, `device/module` or `job/device`.
    Ids(String, BTreeSet<String>),
    /// The rows as compact JSON, sorted; the item type is `Raw`.
    Rows(Vec<String>),
    /// 400.
    Refused,
}

/// Reads them all.
pub fn load() -> Fixtures {
    let part = |name: &str| -> Vec<Object> {
        let mut lines = TEXT.lines().skip_while(|line| *line != format!("# {name}"));
        assert!(lines.next().is_some(), "no part {name}");
        let objects = lines.take_while(|line| !line.starts_with('#'));
        objects.map(|line| Object::parse(line.as_bytes()).expect(line)).collect()
    };
    let extensions: Vec<(String, Expected)> =
        part("extensions").iter().map(|case| (text(case, "q"), expected(case))).collect();
    let case = |case: &Object| {
        let (query, strict) = (text(case, "q"), expected(case));
        let extension = extensions.iter().find(|(extension, _)| *extension == query);
        let extended = extension.map_or(strict.clone(), |(_, expected)| expected.clone());
        Case { query, strict, extended, unverified: case.get("u").is_some() }
    };
    Fixtures {
        devices: part("devices").iter().map(record).collect(),
        modules: part("devices.modules").iter().map(record).collect(),
        jobs: part("devices.jobs").into_iter().map(JobJson).collect(),
        cases: part("tests").iter().map(case).collect(),
    }
}

fn text(object: &Object, key: &str) -> String {
    object.get(key).and_then(Value::as_str).expect(key).to_owned()
}

fn expected(case: &Object) -> Expected {
    if let Some(Value::Array(ids)) = case.get("ids") {
        let ids = ids.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        return Expected::Ids(text(case, "type"), ids);
    }
    if let Some(Value::Array(rows)) = case.get("rows") {
        return Expected::Rows(sorted(rows.iter().map(Value::to_string)));
    }
    assert_eq!(case.get("status").and_then(Value::as_i64), Some(400));
    Expected::Refused
}

/// Rows in an order of their own, to compare answers whose order is free.
pub fn sorted(rows: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut rows: Vec<String> = rows.into_iter().map(|row| with_sorted_keys(&row)).collect();
    rows.sort();
    rows
}

/// The order of keys in a row says nothing.
fn with_sorted_keys(row: &str) -> String {
    let Ok(object) = Object::parse(row.as_bytes()) else { return row.to_owned() };
    let mut members: Vec<_> = object.into_iter().collect();
    members.sort_by(|left, right| left.0.cmp(&right.0));
    Value::Object(members.into_iter().collect()).to_string()
}

fn record(json: &Object) -> (Record, Presence) {
    let id = match json.get("moduleId").and_then(Value::as_str) {
        Some(module) => format!("{}/{module}", text(json, "deviceId")),
        None => text(json, "deviceId"),
    };
    let string = |key: &str| json.get(key).and_then(Value::as_str);
    let last_activity = string("lastActivityTime").map_or(Timestamp::NEVER, time);
    let activity = Activity { last_activity, ..Activity::default() };
    let connected = string("connectionState") == Some("Connected");
    let mut record = Record::new(EntityId::parse(&id).expect("an id"), identity(json));
    record.activity = activity;
    record.configurations = configurations(json);
    record.twin = twin(json);
    (record, Presence { connected, activity, messages: 0 })
}

fn time(text: &str) -> Timestamp {
    Timestamp::parse(text).expect(text)
}

fn identity(json: &Object) -> Identity {
    let string = |key: &str| json.get(key).and_then(Value::as_str);
    let fresh = FreshSecrets { primary: [1; 32], secondary: [2; 32], etag_start: 7 };
    let thumbprint = Thumbprint::parse(&"ab".repeat(20)).ok();
    let authentication = match string("authenticationType") {
        Some("selfSigned") => AuthenticationSpec::SelfSigned { primary: thumbprint, secondary: None },
        Some("certificateAuthority") => AuthenticationSpec::CertificateAuthority,
        _ => AuthenticationSpec::Unspecified,
    };
    let scopes = match json.get("parentScopes") {
        Some(Value::Array(scopes)) => scopes.iter().filter_map(Value::as_str).map(Box::from).collect(),
        _ => Vec::new(),
    };
    let edge = json.get("capabilities").and_then(Value::as_object).and_then(|c| c.get("iotEdge"));
    let spec = IdentitySpec {
        status: Some(if string("status") == Some("disabled") { Status::Disabled } else { Status::Enabled }),
        status_reason: string("statusReason").map(Box::from),
        authentication,
        iot_edge: edge.and_then(Value::as_bool),
        device_scope: string("deviceScope").map(Box::from),
        parent_scopes: scopes,
        managed_by: None,
    };
    let identity = Identity::create(spec, &fresh, NOW).expect("an identity");
    assert!(!matches!(identity.authentication, Authentication::None));
    identity
}

fn configurations(json: &Object) -> Vec<Assignment> {
    let Some(Value::Object(configurations)) = json.get("configurations") else { return Vec::new() };
    let assignment = |(id, of): (&ostler_core::json::Key, &Value)| {
        let applied = of.as_object().map(|of| text(of, "status")).as_deref() == Some("Applied");
        let state = if applied { State::Applied(Default::default()) } else { State::Targeted };
        Assignment { id: ConfigurationId::new(id).expect("an id"), state }
    };
    configurations.iter().map(assignment).collect()
}

fn twin(json: &Object) -> Twin {
    let empty = Object::new();
    let properties = json.get("properties").and_then(Value::as_object).expect("properties");
    let part = |name: &str| properties.get(name).and_then(Value::as_object).expect("a section");
    let tags = json.get("tags").and_then(Value::as_object).unwrap_or(&empty);
    Twin {
        version: json
            .get("version")
            .and_then(Value::as_i64)
            .and_then(|v| v.try_into().ok())
            .expect("version"),
        tags: section(SectionKind::Tags, tags),
        desired: section(SectionKind::Desired, part("desired")),
        reported: section(SectionKind::Reported, part("reported")),
        ..Twin::default()
    }
}

fn section(kind: SectionKind, json: &Object) -> Section {
    let mut section = Section::default().merge(kind, json, NOW).expect("a section");
    if let Some(version) = json.get("$version").and_then(Value::as_i64) {
        section.version = version.try_into().expect("a version");
    }
    if let Some(metadata) = json.get("$metadata").and_then(Value::as_object) {
        restamp(&mut section.members, metadata);
    }
    section
}

fn restamp(members: &mut [Member], metadata: &Object) {
    for member in members {
        let Some(of) = metadata.get(&member.key).and_then(Value::as_object) else { continue };
        if let Some(updated) = of.get("$lastUpdated").and_then(Value::as_str) {
            member.stamp.updated = time(updated);
        }
        if let Node::Object(inner) = &mut member.node {
            restamp(inner, of);
        }
    }
}

/// A row of `devices.jobs`, straight from its JSON.
pub struct JobJson(pub Object);

impl JobJson {
    /// `job/device`.
    pub fn id(&self) -> String {
        format!("{}/{}", text(&self.0, "jobId"), text(&self.0, "deviceId"))
    }

    fn find(&self, field: &JobField) -> Option<&Value> {
        let (name, path): (&str, &[ostler_core::json::Key]) = match field {
            JobField::DeviceId => ("deviceId", &[]),
            JobField::JobId => ("jobId", &[]),
            JobField::JobType => ("jobType", &[]),
            JobField::Status => ("status", &[]),
            JobField::StartTimeUtc => ("startTimeUtc", &[]),
            JobField::EndTimeUtc => ("endTimeUtc", &[]),
            JobField::CreatedDateTimeUtc => ("createdDateTimeUtc", &[]),
            JobField::LastUpdatedDateTimeUtc => ("lastUpdatedDateTimeUtc", &[]),
            JobField::Outcome(path) => ("outcome", path),
            JobField::Error(path) => ("error", path),
        };
        let first = self.0.get(name)?;
        path.iter().try_fold(first, |value, name| value.as_object()?.get(name))
    }
}

impl Row for JobJson {
    fn get(&self, column: &Column) -> Datum<'_> {
        match column.field() {
            Field::Job(field) => self.find(field).map_or(Datum::Undefined, Datum::from),
            _ => Datum::Undefined,
        }
    }

    fn value(&self, column: &Column) -> Option<Value> {
        match column.field() {
            Field::Job(field) => self.find(field).cloned(),
            _ => None,
        }
    }
}
