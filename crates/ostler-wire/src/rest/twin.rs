//! Twins as JSON for services (service §8).
//!
//! Must not know how a twin changes; what a client asks for becomes a [`TwinPatch`] or a [`TwinContent`].
//!
//! Invariant: only `tags` and `properties.desired` are read; clients send complete twins back, reported properties,
//! metadata and status included (service §8.3).

use super::fields::{Fields, InvalidBody};
use super::identity::{write_edge, write_thumbprints, ConnectionState};
use ostler_core::identity::twin_etag_text;
use ostler_core::json::{Object, ObjectWriter, Raw, Value};
use ostler_core::record::Record;
use ostler_core::twin::{SectionKind, SectionPatch, TwinContent, TwinPatch};

/// Appends the whole twin of a device or module; `messages` wait for it.
pub fn write_twin(record: &Record, connection: ConnectionState, messages: u64, out: &mut Vec<u8>) {
    let (identity, twin) = (&record.identity, &record.twin);
    let module = record.id.module();
    let mut object = ObjectWriter::new(out);
    object.string("deviceId", record.id.device());
    if let Some(module) = module {
        object.string("moduleId", module);
    }
    object.string("modelId", twin.model_id.as_deref().unwrap_or_default());
    object.string("etag", &twin_etag_text(twin.etag));
    identity.write_etag(object.key("deviceEtag"));
    object.count("version", twin.version);
    object.string("status", identity.status.name());
    object.string_or_null("statusReason", identity.status_reason.as_deref());
    object.time("statusUpdateTime", identity.status_updated);
    object.string("connectionState", connection.name());
    object.time("lastActivityTime", record.activity.last_activity);
    object.count("cloudToDeviceMessageCount", messages);
    object.string("authenticationType", identity.authentication.type_name());
    write_thumbprints(&identity.authentication, object.object("x509Thumbprint"));
    if module.is_none() {
        write_edge(record, &mut object);
    }
    write_configurations(record, &mut object);
    if !twin.tags.members.is_empty() {
        twin.tags.write_for_service(SectionKind::Tags, object.key("tags"));
    }
    let mut properties = object.object("properties");
    twin.desired.write_for_service(SectionKind::Desired, properties.key("desired"));
    twin.reported.write_for_service(SectionKind::Reported, properties.key("reported"));
    properties.end();
    object.end();
}

/// The configurations that target the twin, left out when there are none (service §8.1).
fn write_configurations(record: &Record, object: &mut ObjectWriter<'_>) {
    if record.configurations.is_empty() {
        return;
    }
    let mut configurations = object.object("configurations");
    for assignment in &record.configurations {
        let mut one = configurations.object(assignment.id.as_str());
        one.string("status", assignment.state.name());
        one.end();
    }
    configurations.end();
}

/// Reads the body of a PATCH.
///
/// # Errors
/// [`InvalidBody`] when the body, or a section in it, is not an object.
pub fn read_patch(body: &[u8]) -> Result<TwinPatch, InvalidBody> {
    read_patch_fields(&Fields::of_body(body)?)
}

/// Reads the sections of a patch, alone or within a job.
pub(super) fn read_patch_fields(fields: &Fields<'_>) -> Result<TwinPatch, InvalidBody> {
    let properties = fields.fields("properties")?;
    Ok(TwinPatch {
        tags: read_section_patch(fields.given("tags"), "tags")?,
        desired: read_section_patch(properties.given("desired"), "properties.desired")?,
    })
}

fn read_section_patch(section: Option<Raw<'_>>, name: &str) -> Result<Option<SectionPatch>, InvalidBody> {
    match section {
        None => Ok(None),
        Some(json) if json.is_null() => Ok(Some(SectionPatch::Clear)),
        Some(json) => Ok(Some(SectionPatch::Merge(read_object(json, name)?))),
    }
}

/// Reads the body of a PUT.
///
/// # Errors
/// [`InvalidBody`] when the body, or a section in it, is not an object.
pub fn read_content(body: &[u8]) -> Result<TwinContent, InvalidBody> {
    read_content_fields(&Fields::of_body(body)?)
}

/// Reads the sections that a whole twin and a bulk entry have in common.
pub(super) fn read_content_fields(fields: &Fields<'_>) -> Result<TwinContent, InvalidBody> {
    let properties = fields.fields("properties")?;
    let section = |json: Option<Raw<'_>>, name| json.map(|json| read_object(json, name)).transpose();
    Ok(TwinContent {
        tags: section(fields.get("tags"), "tags")?,
        desired: section(properties.get("desired"), "properties.desired")?,
    })
}

fn read_object(json: Raw<'_>, name: &str) -> Result<Object, InvalidBody> {
    match json.value() {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(InvalidBody::argument(format!("{name} must be an object, not a {}", other.kind()))),
        Err(error) => Err(InvalidBody::shape(format!("{name}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::error::ErrorCode;
    use crate::rest::testing::{record, NOW};
    use ostler_core::configuration::{Applied, Assignment, ConfigurationId, State};

    fn written(record: &Record) -> String {
        let mut out = Vec::new();
        write_twin(record, ConnectionState::Disconnected, 0, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_new_twin() {
        insta::assert_snapshot!(written(&record("dev-1", "{}")), @r#"{"deviceId":"dev-1","modelId":"","etag":"AAAAAAAAAAE=","deviceEtag":"OA==","version":2,"status":"enabled","statusReason":null,"statusUpdateTime":"0001-01-01T00:00:00Z","connectionState":"Disconnected","lastActivityTime":"0001-01-01T00:00:00Z","cloudToDeviceMessageCount":0,"authenticationType":"sas","x509Thumbprint":{"primaryThumbprint":null,"secondaryThumbprint":null},"capabilities":{"iotEdge":false},"properties":{"desired":{"$metadata":{"$lastUpdated":"0001-01-01T00:00:00Z"},"$version":1},"reported":{"$metadata":{"$lastUpdated":"0001-01-01T00:00:00Z"},"$version":1}}}"#);
    }

    #[test]
    fn a_module_twin_with_properties() {
        let mut record = record("dev-1/mod", "{}");
        let patch = br#"{"tags":{"site":"A"},"properties":{"desired":{"interval":30.0,"on":{"a":[1,"x"]}}}}"#;
        record.twin = record.twin.patch(&read_patch(patch).unwrap(), NOW).unwrap().0;
        record.twin = record.twin.report(&Object::parse(br#"{"t":{"x":1.0e3}}"#).unwrap(), NOW).unwrap();
        record.twin.model_id = Some("dtmi:ex:T;1".into());
        insta::assert_snapshot!(written(&record), @r#"{"deviceId":"dev-1","moduleId":"mod","modelId":"dtmi:ex:T;1","etag":"AAAAAAAAAAI=","deviceEtag":"OA==","version":4,"status":"enabled","statusReason":null,"statusUpdateTime":"0001-01-01T00:00:00Z","connectionState":"Disconnected","lastActivityTime":"0001-01-01T00:00:00Z","cloudToDeviceMessageCount":0,"authenticationType":"sas","x509Thumbprint":{"primaryThumbprint":null,"secondaryThumbprint":null},"tags":{"site":"A"},"properties":{"desired":{"interval":30.0,"on":{"a":[1,"x"]},"$metadata":{"$lastUpdated":"2024-05-01T10:00:00.0000000Z","$lastUpdatedVersion":2,"interval":{"$lastUpdated":"2024-05-01T10:00:00.0000000Z","$lastUpdatedVersion":2},"on":{"$lastUpdated":"2024-05-01T10:00:00.0000000Z","$lastUpdatedVersion":2,"a":{"$lastUpdated":"2024-05-01T10:00:00.0000000Z","$lastUpdatedVersion":2}}},"$version":2},"reported":{"t":{"x":1.0e3},"$metadata":{"$lastUpdated":"2024-05-01T10:00:00.0000000Z","t":{"$lastUpdated":"2024-05-01T10:00:00.0000000Z","x":{"$lastUpdated":"2024-05-01T10:00:00.0000000Z"}}},"$version":2}}}"#);
    }

    #[test]
    fn the_configurations_of_a_twin_are_shown_with_their_status() {
        let mut record = record("dev-1", "{}");
        let assignment = |id, state| Assignment { id: ConfigurationId::new(id).unwrap(), state };
        record.configurations = vec![
            assignment("cfg-1", State::Applied(Applied { paths: vec![["fan".into()].into()] })),
            assignment("cfg-2", State::Targeted),
        ];
        let shown =
            r#""configurations":{"cfg-1":{"status":"Applied"},"cfg-2":{"status":"Targeted"}},"properties""#;
        assert!(written(&record).contains(shown), "{}", written(&record));
    }

    #[test]
    fn a_patch_reads_what_may_be_written_only() {
        let patch = |text: &str| read_patch(text.as_bytes()).unwrap();
        assert!(patch("{}").is_empty());
        assert!(patch(r#"{"properties":{"reported":{"a":1}},"etag":"x","status":"disabled"}"#).is_empty());
        assert!(patch(r#"{"properties":null}"#).is_empty());
        let both = patch(r#"{"tags":null,"properties":{"desired":{"a":null}}}"#);
        assert_eq!(both.tags, Some(SectionPatch::Clear));
        let Some(SectionPatch::Merge(desired)) = both.desired else { panic!("a merge") };
        assert_eq!(Value::Object(desired).to_string(), r#"{"a":null}"#);
    }

    #[test]
    fn a_whole_twin_may_be_sent_back() {
        let mut record = record("dev-1", "{}");
        let patch = read_patch(br#"{"tags":{"site":"A"},"properties":{"desired":{"interval":30}}}"#).unwrap();
        record.twin = record.twin.patch(&patch, NOW).unwrap().0;
        let content = read_content(written(&record).as_bytes()).unwrap();
        assert_eq!(Value::Object(content.tags.unwrap()).to_string(), r#"{"site":"A"}"#);
        assert_eq!(content.desired.unwrap().get("interval").and_then(Value::as_i64), Some(30));
    }

    #[test]
    fn sections_must_be_objects() {
        let refused =
            |text: &str| read_patch(text.as_bytes()).map_err(|error| (error.code, error.text)).unwrap_err();
        assert_eq!(
            refused(r#"{"tags":[1]}"#),
            (ErrorCode::ArgumentInvalid, "tags must be an object, not a array".into())
        );
        assert_eq!(
            refused(r#"{"properties":{"desired":"x"}}"#),
            (ErrorCode::ArgumentInvalid, "properties.desired must be an object, not a string".into())
        );
        assert_eq!(
            refused(r#"{"properties":5}"#),
            (ErrorCode::DeserializationError, "properties must be an object".into())
        );
        assert_eq!(refused("nonsense").0, ErrorCode::DeserializationError);
    }
}
