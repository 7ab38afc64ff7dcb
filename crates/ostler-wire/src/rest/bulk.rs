//! Bulk changes of the registry: the list of entries and the result (service §6.1).
//!
//! Must not know which entries succeed.
//!
//! Invariant: entries are independent, so an entry that cannot be read is an error of its own and the others go on; only
//! what concerns the list as a whole refuses all of it.

use super::error::ErrorCode;
use super::fields::{json, Fields, InvalidBody};
use super::identity::{read_spec, write_list};
use super::twin::read_content_fields;
use ostler_core::id::{DeviceId, EntityId, ModuleId};
use ostler_core::identity::IdentitySpec;
use ostler_core::json::{ObjectWriter, Raw};
use ostler_core::limits::BULK_ENTRIES;
use ostler_core::twin::TwinContent;
use std::borrow::Cow;
use std::collections::HashSet;

/// What an entry does (service §6.1). Clients spell the words in two ways, so case does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ImportMode {
    /// Create or overwrite.
    CreateOrUpdate,
    /// Create; fail if present.
    Create,
    /// Overwrite; fail if absent.
    Update,
    /// Overwrite if `eTag` matches.
    UpdateIfMatchEtag,
    /// Create, or overwrite if `eTag` matches.
    CreateOrUpdateIfMatchEtag,
    /// Delete.
    Delete,
    /// Delete if `eTag` matches.
    DeleteIfMatchEtag,
    /// Change the twin only.
    UpdateTwin,
    /// Change the twin only, if `twinETag` matches.
    UpdateTwinIfMatchEtag,
}

impl ImportMode {
    /// Every mode.
    pub const ALL: [ImportMode; 9] = [
        ImportMode::CreateOrUpdate,
        ImportMode::Create,
        ImportMode::Update,
        ImportMode::UpdateIfMatchEtag,
        ImportMode::CreateOrUpdateIfMatchEtag,
        ImportMode::Delete,
        ImportMode::DeleteIfMatchEtag,
        ImportMode::UpdateTwin,
        ImportMode::UpdateTwinIfMatchEtag,
    ];

    /// The wire's word.
    pub const fn name(self) -> &'static str {
        match self {
            ImportMode::CreateOrUpdate => "createOrUpdate",
            ImportMode::Create => "create",
            ImportMode::Update => "update",
            ImportMode::UpdateIfMatchEtag => "updateIfMatchETag",
            ImportMode::CreateOrUpdateIfMatchEtag => "createOrUpdateIfMatchETag",
            ImportMode::Delete => "delete",
            ImportMode::DeleteIfMatchEtag => "deleteIfMatchETag",
            ImportMode::UpdateTwin => "updateTwin",
            ImportMode::UpdateTwinIfMatchEtag => "updateTwinIfMatchETag",
        }
    }

    /// Reads the word, in any case.
    pub fn parse(word: &str) -> Option<ImportMode> {
        ImportMode::ALL.into_iter().find(|mode| mode.name().eq_ignore_ascii_case(word))
    }
}

/// One entry that can be carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct BulkEntry {
    /// Whom it concerns.
    pub id: EntityId,
    /// What is to be done.
    pub mode: ImportMode,
    /// `eTag` as given, bare or quoted.
    pub etag: Option<String>,
    /// `twinETag` as given.
    pub twin_etag: Option<String>,
    /// The identity asked for.
    pub identity: IdentitySpec,
    /// Tags and desired properties asked for.
    pub twin: TwinContent,
}

/// One entry that was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkError {
    /// The device's name, as far as the entry had one.
    pub device_id: String,
    /// The module's name.
    pub module_id: Option<String>,
    /// Why, as a code.
    pub code: ErrorCode,
    /// Why, in words.
    pub text: String,
    /// What was asked for; `None` if that could not be read.
    pub mode: Option<ImportMode>,
}

/// Reads the body of `POST /devices`: each entry, or why it cannot be carried out.
///
/// # Errors
/// [`InvalidBody`] when the body is no list, has too many entries, or names a device twice, be it by two of its modules
/// (service §6.1).
pub fn read_entries(body: &[u8]) -> Result<Vec<Result<BulkEntry, BulkError>>, InvalidBody> {
    let elements =
        json(body)?.elements().ok_or_else(|| InvalidBody::shape("the body must be a list of devices"))?;
    if elements.len() > BULK_ENTRIES {
        let text =
            format!("{} entries are too many for one request, the limit is {BULK_ENTRIES}", elements.len());
        return Err(InvalidBody { code: ErrorCode::TooManyDevices, text });
    }
    let mut named = HashSet::new();
    let mut entries = Vec::with_capacity(elements.len());
    for element in elements {
        let fields =
            Fields::of(element).ok_or_else(|| InvalidBody::shape("an entry is not a JSON object"))?;
        let device = fields.text("id")?.unwrap_or_default();
        if !device.is_empty() && !named.insert(device.clone()) {
            let text = format!("DeviceDefinedMultipleTimes, device ID {device}");
            return Err(InvalidBody { code: ErrorCode::DeviceDefinedMultipleTimes, text });
        }
        entries.push(read_entry(&fields, &device));
    }
    Ok(entries)
}

fn read_entry(fields: &Fields<'_>, device: &str) -> Result<BulkEntry, BulkError> {
    let module = fields.text("moduleId").unwrap_or_default();
    let mode = read_mode(fields);
    let refuse = |error: InvalidBody| BulkError {
        device_id: device.to_owned(),
        module_id: module.as_deref().map(str::to_owned),
        code: error.code,
        text: error.text,
        mode: mode.as_ref().ok().copied(),
    };
    let entry = || {
        Ok(BulkEntry {
            id: read_id(device, module.as_deref())?,
            mode: mode.clone()?,
            etag: fields.text("eTag")?.map(Cow::into_owned),
            twin_etag: fields.text("twinETag")?.map(Cow::into_owned),
            identity: read_spec(fields)?,
            twin: read_content_fields(fields)?,
        })
    };
    entry().map_err(refuse)
}

fn read_mode(fields: &Fields<'_>) -> Result<ImportMode, InvalidBody> {
    let Some(word) = fields.text("importMode")? else { return Ok(ImportMode::CreateOrUpdate) };
    ImportMode::parse(&word).ok_or_else(|| InvalidBody::argument(format!("importMode '{word}' is not known")))
}

fn read_id(device: &str, module: Option<&str>) -> Result<EntityId, InvalidBody> {
    if device.is_empty() {
        return Err(InvalidBody::missing("id"));
    }
    let device = DeviceId::new(device).map_err(|error| InvalidBody::argument(format!("id: {error}")))?;
    let Some(module) = module else { return Ok(device.into()) };
    let module =
        ModuleId::new(module).map_err(|error| InvalidBody::argument(format!("moduleId: {error}")))?;
    Ok(EntityId::of_module(&device, &module))
}

/// Appends the result of a bulk request; it succeeded if there are no errors.
pub fn write_result(errors: &[BulkError], out: &mut Vec<u8>) {
    let mut object = ObjectWriter::new(out);
    object.bool("isSuccessful", errors.is_empty());
    write_list(errors, object.key("errors"), |error, out| {
        let mut object = ObjectWriter::new(out);
        object.string("deviceId", &error.device_id).string_or_null("moduleId", error.module_id.as_deref());
        object.string("errorCode", error.code.name()).string("errorStatus", &error.text);
        object.string_or_null("operation", error.mode.map(ImportMode::name));
        object.end();
    });
    object.raw("warnings", b"[]");
    object.end();
}

/// Reads the result of a bulk request, for clients; `None` if it is none.
pub fn read_result(body: &[u8]) -> Option<Vec<BulkError>> {
    let fields = Fields::of(Raw::parse(body).ok()?)?;
    fields.boolean("isSuccessful").ok()??;
    let Some(errors) = fields.get("errors") else { return Some(Vec::new()) };
    errors.elements()?.into_iter().map(read_error).collect()
}

fn read_error(json: Raw<'_>) -> Option<BulkError> {
    let fields = Fields::of(json)?;
    let text = |name: &str| fields.text(name).ok().flatten().map(Cow::into_owned);
    Some(BulkError {
        device_id: text("deviceId").unwrap_or_default(),
        module_id: text("moduleId"),
        code: text("errorCode")
            .and_then(|name| ErrorCode::try_from(&*name).ok())
            .unwrap_or(ErrorCode::GenericBadRequest),
        text: text("errorStatus").unwrap_or_default(),
        mode: text("operation").and_then(|word| ImportMode::parse(&word)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ostler_core::identity::Status;
    use ostler_core::json::Value;

    #[test]
    fn modes_in_the_clients_spellings() {
        for mode in ImportMode::ALL {
            assert_eq!(ImportMode::parse(mode.name()), Some(mode));
            assert_eq!(ImportMode::parse(&mode.name().to_ascii_uppercase()), Some(mode));
        }
        assert_eq!(ImportMode::parse("UpdateIfMatchETag"), Some(ImportMode::UpdateIfMatchEtag));
        assert_eq!(ImportMode::parse("upsert"), None);
    }

    #[test]
    fn entries_that_can_be_carried_out() {
        let body = br#"[
            {"id":"a","importMode":"create","status":"disabled","tags":{"x":1},"properties":{"desired":{"y":2}}},
            {"id":"b","moduleId":"m","eTag":"\"MQ==\"","importMode":"DeleteIfMatchETag"},
            {"id":"c","twinETag":"AAAAAAAAAAE=","importMode":null,"tags":null}
        ]"#;
        let entries: Vec<BulkEntry> = read_entries(body).unwrap().into_iter().map(Result::unwrap).collect();
        assert_eq!(
            (entries[0].mode, entries[0].identity.status),
            (ImportMode::Create, Some(Status::Disabled))
        );
        let desired = entries[0].twin.desired.clone().unwrap();
        assert_eq!(Value::Object(desired).to_string(), r#"{"y":2}"#);
        assert_eq!((entries[1].id.as_str(), entries[1].etag.as_deref()), ("b/m", Some("\"MQ==\"")));
        assert_eq!(
            (entries[2].mode, entries[2].twin_etag.as_deref()),
            (ImportMode::CreateOrUpdate, Some("AAAAAAAAAAE="))
        );
        assert_eq!(entries[2].twin, TwinContent::default());
    }

    #[test]
    fn a_bad_entry_leaves_the_others_alone() {
        let body = br#"[{"id":"a/b"},{"id":"ok"},{},{"id":"c","importMode":"guess"},{"id":"d","status":"maybe","importMode":"update"},{"id":"e","tags":5}]"#;
        let entries = read_entries(body).unwrap();
        assert!(entries[1].is_ok());
        let errors: Vec<BulkError> = entries.into_iter().filter_map(Result::err).collect();
        let mut out = Vec::new();
        write_result(&errors, &mut out);
        insta::assert_snapshot!(String::from_utf8(out.clone()).unwrap().replace("},{", "},\n{"), @r#"
            {"isSuccessful":false,"errors":[{"deviceId":"a/b","moduleId":null,"errorCode":"ArgumentInvalid","errorStatus":"id: the character '/' is not allowed in an id; allowed are ASCII letters, digits and - : . + % _ # * ? ! ( ) , = @ ; $ '","operation":"createOrUpdate"},
            {"deviceId":"","moduleId":null,"errorCode":"ArgumentNull","errorStatus":"id is missing","operation":"createOrUpdate"},
            {"deviceId":"c","moduleId":null,"errorCode":"ArgumentInvalid","errorStatus":"importMode 'guess' is not known","operation":null},
            {"deviceId":"d","moduleId":null,"errorCode":"ArgumentInvalid","errorStatus":"status is 'maybe', expected enabled or disabled","operation":"update"},
            {"deviceId":"e","moduleId":null,"errorCode":"ArgumentInvalid","errorStatus":"tags must be an object, not a number","operation":"createOrUpdate"}],"warnings":[]}
            "#);
        assert_eq!(read_result(&out).unwrap(), errors);
    }

    #[test]
    fn a_success() {
        let mut out = Vec::new();
        write_result(&[], &mut out);
        assert_eq!(out, br#"{"isSuccessful":true,"errors":[],"warnings":[]}"#);
        assert_eq!(read_result(&out), Some(Vec::new()));
        assert_eq!(read_result(b"{\"Message\":\"ErrorCode:ArgumentNull;\"}"), None);
    }

    #[test]
    fn what_refuses_the_whole_list() {
        let refused =
            |body: &str| read_entries(body.as_bytes()).map_err(|error| (error.code, error.text)).unwrap_err();
        assert_eq!(refused("{}").0, ErrorCode::DeserializationError);
        assert_eq!(refused("[1]").0, ErrorCode::DeserializationError);
        assert_eq!(
            refused(r#"[{"id":"a","moduleId":"x"},{"id":"a","moduleId":"y"}]"#),
            (ErrorCode::DeviceDefinedMultipleTimes, "DeviceDefinedMultipleTimes, device ID a".into())
        );
        let many: Vec<String> = (0..101).map(|i| format!("{{\"id\":\"d{i}\"}}")).collect();
        assert_eq!(
            refused(&format!("[{}]", many.join(","))),
            (ErrorCode::TooManyDevices, "101 entries are too many for one request, the limit is 100".into())
        );
    }
}
