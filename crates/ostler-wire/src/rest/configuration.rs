//! Automatic configurations as JSON (service §11).
//!
//! Must not know which twins a configuration reaches, or how its metrics are counted.
//!
//! Invariant: clients send whole configurations back; read-only members are ignored (service §16 no. 17).

use super::error::ErrorCode;
use super::fields::{Fields, InvalidBody};
use ostler_core::configuration::{Configuration, ConfigurationId, ConfigurationSpec};
use ostler_core::json::{Key, Object, ObjectWriter, Raw, Value};

/// Named queries and, where they were run, their results.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Name, query, and the number of its rows.
    pub entries: Vec<(Key, Box<str>, Option<u64>)>,
}

/// Both kinds of metrics of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllMetrics {
    /// Those that every configuration has (service §11.3).
    pub system: Metrics,
    /// The caller's own.
    pub custom: Metrics,
}

/// Appends a configuration.
pub fn write_configuration(configuration: &Configuration, metrics: &AllMetrics, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::new(out);
    object.string("id", configuration.id.as_str());
    object.string("schemaVersion", &configuration.schema_version);
    let mut labels = object.object("labels");
    for (name, value) in &configuration.labels {
        labels.string(name, value);
    }
    labels.end();
    configuration.content_json.write_to(object.key("content"));
    if let Some(content_type) = &configuration.content_type {
        object.string("contentType", content_type);
    }
    object.string("targetCondition", configuration.target.text());
    object.time("createdTimeUtc", configuration.created);
    object.time("lastUpdatedTimeUtc", configuration.updated);
    object.count("priority", u64::from(configuration.priority));
    write_metrics(&metrics.system, object.object("systemMetrics"));
    write_metrics(&metrics.custom, object.object("metrics"));
    object.string("etag", &configuration.etag_text());
    object.end();
}

fn write_metrics(metrics: &Metrics, mut object: ObjectWriter<'_>) {
    let mut results = object.object("results");
    for (name, _, result) in &metrics.entries {
        if let Some(result) = result {
            results.count(name, *result);
        }
    }
    results.end();
    let mut queries = object.object("queries");
    for (name, query, _) in &metrics.entries {
        queries.string(name, query);
    }
    queries.end();
    object.end();
}

/// Reads the body of a PUT.
///
/// # Errors
/// [`InvalidBody`] when a member is not of the right kind, or the id is not the one of the path.
pub fn read_configuration(id: &ConfigurationId, body: &[u8]) -> Result<ConfigurationSpec, InvalidBody> {
    let fields = Fields::of_body(body)?;
    if let Some(other) = fields.string("id")?.filter(|other| other != id.as_str()) {
        let other: String = other.chars().take(128).collect();
        return Err(InvalidBody::argument(format!("the body is about {other:?}, the path about \"{id}\"")));
    }
    let own = |text: Option<std::borrow::Cow<'_, str>>| text.map(|text| text.into_owned().into_boxed_str());
    let metrics = fields.fields("metrics")?.get("queries");
    Ok(ConfigurationSpec {
        schema_version: own(fields.text("schemaVersion")?),
        labels: fields.get("labels").map(|labels| read_texts("labels", labels)).transpose()?,
        content: fields.get("content").map(|content| read_object("content", content)).transpose()?,
        content_type: own(fields.text("contentType")?),
        target_condition: own(fields.string("targetCondition")?),
        priority: fields.integer("priority")?,
        metrics: metrics.map(|queries| read_texts("metrics.queries", queries)).transpose()?,
    })
}

fn read_texts(name: &str, json: Raw<'_>) -> Result<Vec<(Key, Box<str>)>, InvalidBody> {
    let wrong = || InvalidBody::shape(format!("{name} must be an object of strings"));
    let members = json.members().ok_or_else(wrong)?;
    // A null counts as absent, as everywhere.
    let members = members.into_iter().filter(|(_, value)| !value.is_null());
    let text = |(key, value): (std::borrow::Cow<'_, str>, Raw<'_>)| {
        let value = value.as_string().ok_or_else(wrong)?;
        Ok((Key::from(&*key), value.into_owned().into_boxed_str()))
    };
    members.map(text).collect()
}

fn read_object(name: &str, json: Raw<'_>) -> Result<Object, InvalidBody> {
    match json.value() {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => {
            let text = format!("{name} must be an object, not a {}", other.kind());
            Err(InvalidBody { code: ErrorCode::InvalidConfigurationContent, text })
        }
        Err(error) => Err(InvalidBody::shape(format!("{name}: {error}"))),
    }
}

/// Reads the body of `applyConfigurationContent`: the content alone (service §11.1).
///
/// # Errors
/// [`InvalidBody`] when it is not an object.
pub fn read_content(body: &[u8]) -> Result<Object, InvalidBody> {
    read_object("the body", super::fields::json(body)?)
}

/// Texts to be tried before a configuration is made of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryTest {
    /// The target condition.
    pub target_condition: Option<Box<str>>,
    /// Custom metrics: name and query.
    pub metrics: Vec<(Key, Box<str>)>,
}

/// Reads the body of `testQueries`.
///
/// # Errors
/// [`InvalidBody`] when a member is not of the right kind.
pub fn read_query_test(body: &[u8]) -> Result<QueryTest, InvalidBody> {
    let fields = Fields::of_body(body)?;
    let metrics = fields.get("customMetricQueries");
    Ok(QueryTest {
        target_condition: fields.string("targetCondition")?.map(|text| text.into_owned().into_boxed_str()),
        metrics: metrics
            .map(|queries| read_texts("customMetricQueries", queries))
            .transpose()?
            .unwrap_or_default(),
    })
}

/// Appends what is wrong with tested queries; members that are right are left out.
pub fn write_query_test(condition_error: Option<&str>, metric_errors: &[(Key, String)], out: &mut Vec<u8>) {
    let mut object = ObjectWriter::new(out);
    if let Some(error) = condition_error {
        object.string("targetConditionError", error);
    }
    let mut errors = object.object("customMetricQueryErrors");
    for (name, error) in metric_errors {
        errors.string(name, error);
    }
    errors.end();
    object.end();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::testing::NOW;
    use ostler_core::query::Dialect;

    fn id(text: &str) -> ConfigurationId {
        ConfigurationId::new(text).unwrap()
    }

    fn made(body: &str) -> Configuration {
        let spec = read_configuration(&id("cfg-1"), body.as_bytes()).unwrap();
        Configuration::create(id("cfg-1"), spec, Dialect::Extended, 0, NOW).unwrap()
    }

    const BODY: &str = r#"{"id":"cfg-1","schemaVersion":"1.0","labels":{"k":"v"},"content":{"deviceContent":{"properties.desired.cooling":{"fan":2.0}}},"contentType":"assignment","targetCondition":"tags.site='A'","priority":10,"systemMetrics":{"results":{"x":1}},"metrics":{"results":{"m1":9},"queries":{"m1":"select deviceId from devices where tags.site = 'B'"}},"etag":"x"}"#;

    #[test]
    fn a_configuration_reads_and_writes() {
        let configuration = made(BODY);
        let entry = |name: &str, query: &str, result| (name.into(), query.into(), result);
        let metrics = AllMetrics {
            system: Metrics {
                entries: vec![entry("targetedCount", "q1", Some(3)), entry("appliedCount", "q2", None)],
            },
            custom: Metrics { entries: vec![entry("m1", "select deviceId from devices", Some(0))] },
        };
        let mut out = Vec::new();
        write_configuration(&configuration, &metrics, &mut out);
        let text = String::from_utf8(out).unwrap();
        insta::assert_snapshot!(text, @r#"{"id":"cfg-1","schemaVersion":"1.0","labels":{"k":"v"},"content":{"deviceContent":{"properties.desired.cooling":{"fan":2.0}}},"contentType":"assignment","targetCondition":"tags.site='A'","createdTimeUtc":"2024-05-01T10:00:00.0000000Z","lastUpdatedTimeUtc":"2024-05-01T10:00:00.0000000Z","priority":10,"systemMetrics":{"results":{"targetedCount":3},"queries":{"targetedCount":"q1","appliedCount":"q2"}},"metrics":{"results":{"m1":0},"queries":{"m1":"select deviceId from devices"}},"etag":"MQ=="}"#);
        // What a client sends back means the same, but for the times and the etag.
        let again = read_configuration(&id("cfg-1"), text.as_bytes()).unwrap();
        assert!(configuration.update(again, Dialect::Extended, NOW).is_ok());
    }

    #[test]
    fn what_is_not_of_the_right_kind_is_named() {
        let refused = |text: &str| {
            let error = read_configuration(&id("cfg-1"), text.as_bytes()).unwrap_err();
            format!("{} {}", error.code.name(), error.text)
        };
        for (body, text) in [
            (r#"{"id":"cfg-2"}"#, r#"ArgumentInvalid the body is about "cfg-2", the path about "cfg-1""#),
            (r#"{"labels":{"a":1}}"#, "DeserializationError labels must be an object of strings"),
            (r#"{"content":5}"#, "InvalidConfigurationContent content must be an object, not a number"),
            (r#"{"priority":"1"}"#, "DeserializationError priority must be an integer"),
            (
                r#"{"metrics":{"queries":[]}}"#,
                "DeserializationError metrics.queries must be an object of strings",
            ),
        ] {
            assert_eq!(refused(body), text);
        }
    }

    #[test]
    fn tested_queries() {
        let body = br#"{"targetCondition":"tags.a=1","customMetricQueries":{"m":"select"}}"#;
        let test = read_query_test(body).unwrap();
        assert_eq!((test.target_condition.as_deref(), test.metrics.len()), (Some("tags.a=1"), 1));
        let mut out = Vec::new();
        write_query_test(Some("line 1"), &[("m".into(), "no".into())], &mut out);
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"{"targetConditionError":"line 1","customMetricQueryErrors":{"m":"no"}}"#);
    }
}
