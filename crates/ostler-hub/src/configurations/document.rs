//! The stored form of a configuration: a JSON object on [`Shelf::Configurations`](ostler_store::Shelf), under the
//! configuration's id.
//!
//! Must not know: what a client sees of a configuration.
//!
//! Invariant: `read(write(configuration)) == configuration`.

use crate::error::Error;
use ostler_core::configuration::{Configuration, ConfigurationId, ConfigurationSpec};
use ostler_core::json::{Key, Object, ObjectWriter, Value};
use ostler_core::query::Dialect;
use ostler_core::time::Timestamp;
use ostler_store::StoreError;

/// The format of documents that this version writes.
const FORMAT: i64 = 1;

pub(super) fn write(configuration: &Configuration) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let mut object = ObjectWriter::new(&mut out);
    object.integer("format", FORMAT);
    object.string("schemaVersion", &configuration.schema_version);
    write_texts(configuration.labels.iter().map(|(name, value)| (name, value)), object.object("labels"));
    configuration.content_json.write_to(object.key("content"));
    if let Some(content_type) = &configuration.content_type {
        object.string("contentType", content_type);
    }
    object.string("targetCondition", configuration.target.text());
    object.count("priority", u64::from(configuration.priority));
    write_texts(
        configuration.metrics.iter().map(|metric| (&metric.name, &metric.text)),
        object.object("metrics"),
    );
    object.integer("created", configuration.created.ticks());
    object.integer("updated", configuration.updated.ticks());
    object.count("etag", configuration.etag);
    object.end();
    out
}

fn write_texts<'a>(texts: impl Iterator<Item = (&'a Key, &'a Box<str>)>, mut object: ObjectWriter<'_>) {
    for (name, text) in texts {
        object.string(name, text);
    }
    object.end();
}

/// A document that cannot be read stops the start: to go on without it would remove its settings from the fleet.
pub(super) fn read(id: &str, bytes: &[u8]) -> Result<Configuration, Error> {
    let corrupt = |reason: String| {
        let id = format!("configuration {id}");
        Error::Store(StoreError::Corrupt { id, reason })
    };
    let id = ConfigurationId::new(id).map_err(|error| corrupt(error.to_string()))?;
    let object = Object::parse(bytes).map_err(|error| corrupt(error.to_string()))?;
    let format = object.get("format").and_then(Value::as_i64);
    if format != Some(FORMAT) {
        return Err(corrupt(format!("it has format {format:?}, this version reads format {FORMAT}")));
    }
    let number = |name: &str| {
        object.get(name).and_then(Value::as_i64).ok_or_else(|| corrupt(format!("{name} is missing")))
    };
    let text = |name: &str| object.get(name).and_then(Value::as_str).map(Into::into);
    let spec = ConfigurationSpec {
        schema_version: text("schemaVersion"),
        labels: object.get("labels").and_then(read_texts),
        content: object.get("content").and_then(Value::as_object).cloned(),
        content_type: text("contentType"),
        target_condition: text("targetCondition"),
        priority: Some(number("priority")?),
        metrics: object.get("metrics").and_then(read_texts),
    };
    let (created, updated) = (number("created")?, number("updated")?);
    let etag = u64::try_from(number("etag")?).map_err(|error| corrupt(error.to_string()))?;
    // What was accepted once is accepted again, also by a hub that has become strict since.
    let made = Configuration::create(id, spec, Dialect::Extended, 0, Timestamp::from_ticks(created));
    let made = made.map_err(|error| corrupt(error.to_string()))?;
    Ok(Configuration { updated: Timestamp::from_ticks(updated), etag, ..made })
}

fn read_texts(value: &Value) -> Option<Vec<(Key, Box<str>)>> {
    let members = value.as_object()?.iter();
    members.map(|(name, text)| Some((name.clone(), text.as_str()?.into()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_reads_as_written() {
        let object = |text: &str| Object::parse(text.as_bytes()).unwrap();
        let spec = ConfigurationSpec {
            labels: Some(vec![("k".into(), "v".into())]),
            content: Some(object(r#"{"deviceContent":{"properties.desired.a":1.0}}"#)),
            content_type: Some("assignment".into()),
            target_condition: Some("tags.site = 'A'".into()),
            priority: Some(7),
            metrics: Some(vec![("m".into(), "SELECT deviceId FROM devices".into())]),
            ..ConfigurationSpec::default()
        };
        let id = ConfigurationId::new("cfg-1").unwrap();
        let made = Configuration::create(id, spec, Dialect::Strict, 41, Timestamp::from_ticks(5)).unwrap();
        let made = Configuration { updated: Timestamp::from_ticks(9), ..made };
        assert_eq!(read("cfg-1", &write(&made)), Ok(made));
        for bad in ["", "{}", r#"{"format":2}"#, r#"{"format":1,"priority":1}"#] {
            let error = read("cfg-1", bad.as_bytes()).unwrap_err();
            assert!(error.to_string().contains("configuration cfg-1"), "{error}");
        }
    }
}
