//! Identities as JSON (service §5.3, §5.4), counts and lists of them.
//!
//! Must not know how an identity changes; what a client asks for becomes an [`IdentitySpec`].
//!
//! Invariant: clients send whole objects back; read-only members are ignored (service §16 no. 17).

use super::fields::{Fields, InvalidBody};
use ostler_core::id::EntityId;
use ostler_core::identity::{
    Authentication, AuthenticationSpec, IdentitySpec, Status, SymmetricKey, Thumbprint,
};
use ostler_core::json::{write_string, ObjectWriter};
use ostler_core::record::Record;
use std::borrow::Cow;

/// Whether a device or module is connected now. The hub knows it; records do not hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// It is.
    Connected,
    /// It is not.
    Disconnected,
}

impl ConnectionState {
    /// The wire's word.
    pub const fn name(self) -> &'static str {
        match self {
            ConnectionState::Connected => "Connected",
            ConnectionState::Disconnected => "Disconnected",
        }
    }
}

/// Appends a device's or module's identity; `messages` wait for it.
pub fn write_identity(record: &Record, connection: ConnectionState, messages: u64, out: &mut Vec<u8>) {
    let identity = &record.identity;
    let module = record.id.module();
    let mut object = ObjectWriter::new(out);
    if let Some(module) = module {
        object.string("moduleId", module).string_or_null("managedBy", identity.managed_by.as_deref());
    }
    object.string("deviceId", record.id.device());
    object.string("generationId", &identity.generation_id.to_string());
    identity.write_etag(object.key("etag"));
    object.string("connectionState", connection.name());
    if module.is_none() {
        object.string("status", identity.status.name());
        object.string_or_null("statusReason", identity.status_reason.as_deref());
        object.time("statusUpdatedTime", identity.status_updated);
    }
    object.time("connectionStateUpdatedTime", record.activity.connection_updated);
    object.time("lastActivityTime", record.activity.last_activity);
    object.count("cloudToDeviceMessageCount", messages);
    write_authentication(&identity.authentication, object.object("authentication"));
    if module.is_none() {
        write_edge(record, &mut object);
    }
    object.end();
}

fn write_authentication(authentication: &Authentication, mut object: ObjectWriter<'_>) {
    let (primary, secondary) = match authentication {
        Authentication::Sas { primary, secondary } => {
            (Some(primary.to_base64()), Some(secondary.to_base64()))
        }
        _ => (None, None),
    };
    let mut keys = object.object("symmetricKey");
    keys.string_or_null("primaryKey", primary.as_deref())
        .string_or_null("secondaryKey", secondary.as_deref());
    keys.end();
    write_thumbprints(authentication, object.object("x509Thumbprint"));
    object.string("type", authentication.type_name());
    object.end();
}

/// Both thumbprints, `null` for other kinds of authentication.
pub(super) fn write_thumbprints(authentication: &Authentication, mut object: ObjectWriter<'_>) {
    let (primary, secondary) = match authentication {
        Authentication::SelfSigned { primary, secondary } => (primary.as_ref(), secondary.as_ref()),
        _ => (None, None),
    };
    object.string_or_null("primaryThumbprint", primary.map(Thumbprint::as_str));
    object.string_or_null("secondaryThumbprint", secondary.map(Thumbprint::as_str));
    object.end();
}

/// What only devices have: capabilities, and scopes where there are any (service §5.6).
pub(super) fn write_edge(record: &Record, object: &mut ObjectWriter<'_>) {
    let identity = &record.identity;
    let mut capabilities = object.object("capabilities");
    capabilities.bool("iotEdge", identity.iot_edge);
    capabilities.end();
    if let Some(scope) = &identity.device_scope {
        object.string("deviceScope", scope);
    }
    if !identity.parent_scopes.is_empty() {
        write_list(&identity.parent_scopes, object.key("parentScopes"), |scope, out| {
            write_string(scope, out)
        });
    }
}

/// Appends an array.
pub fn write_list<T>(items: &[T], out: &mut Vec<u8>, mut write: impl FnMut(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

/// Reads the body of a PUT of `id`.
///
/// # Errors
/// [`InvalidBody`] names the member and the rule; the names in the body must be those of the path.
pub fn read_identity(id: &EntityId, body: &[u8]) -> Result<IdentitySpec, InvalidBody> {
    let fields = Fields::of_body(body)?;
    for (name, expected) in [("deviceId", Some(id.device())), ("moduleId", id.module())] {
        match (fields.text(name)?, expected) {
            (Some(given), Some(expected)) if given != expected => {
                let text = format!("{name} in the body is '{given}', in the path '{expected}'");
                return Err(InvalidBody::argument(text));
            }
            _ => {}
        }
    }
    read_spec(&fields)
}

/// Reads what an identity's body and a bulk entry have in common.
pub(super) fn read_spec(fields: &Fields<'_>) -> Result<IdentitySpec, InvalidBody> {
    let status = match fields.text("status")?.as_deref() {
        None => None,
        Some(word) if word.eq_ignore_ascii_case("enabled") => Some(Status::Enabled),
        Some(word) if word.eq_ignore_ascii_case("disabled") => Some(Status::Disabled),
        Some(word) => {
            let text = format!("status is '{word}', expected enabled or disabled");
            return Err(InvalidBody::argument(text));
        }
    };
    Ok(IdentitySpec {
        status,
        status_reason: fields.text("statusReason")?.map(boxed),
        authentication: read_authentication(&fields.fields("authentication")?)?,
        iot_edge: fields.fields("capabilities")?.boolean("iotEdge")?,
        device_scope: fields.text("deviceScope")?.map(boxed),
        parent_scopes: fields.strings("parentScopes")?.into_iter().map(boxed).collect(),
        managed_by: fields.string("managedBy")?.map(boxed),
    })
}

fn boxed(text: Cow<'_, str>) -> Box<str> {
    text.into_owned().into()
}

/// Reads `authentication`. A missing type is inferred; empty keys are keys to be made, which is what one client's default
/// objects hold (service §5.4).
fn read_authentication(fields: &Fields<'_>) -> Result<AuthenticationSpec, InvalidBody> {
    if fields.is_empty() {
        return Ok(AuthenticationSpec::Unspecified);
    }
    let keys = fields.fields("symmetricKey")?;
    let thumbprints = fields.fields("x509Thumbprint")?;
    let kind = fields.text("type")?.map(|word| word.to_ascii_lowercase());
    let kind = match kind.as_deref() {
        Some(word) => word,
        None if thumbprints.text("primaryThumbprint")?.is_some() => "selfsigned",
        None if thumbprints.text("secondaryThumbprint")?.is_some() => "selfsigned",
        None if keys.is_empty() => return Ok(AuthenticationSpec::Unspecified),
        None => "sas",
    };
    match kind {
        "sas" => Ok(AuthenticationSpec::Sas {
            primary: read_key(&keys, "primaryKey")?,
            secondary: read_key(&keys, "secondaryKey")?,
        }),
        "selfsigned" => Ok(AuthenticationSpec::SelfSigned {
            primary: read_thumbprint(&thumbprints, "primaryThumbprint")?,
            secondary: read_thumbprint(&thumbprints, "secondaryThumbprint")?,
        }),
        "certificateauthority" => Ok(AuthenticationSpec::CertificateAuthority),
        "none" => Ok(AuthenticationSpec::None),
        other => {
            let known = "sas, selfSigned, certificateAuthority or none";
            Err(InvalidBody::argument(format!("authentication.type is '{other}', expected {known}")))
        }
    }
}

fn read_key(keys: &Fields<'_>, name: &str) -> Result<Option<SymmetricKey>, InvalidBody> {
    let Some(text) = keys.text(name)? else { return Ok(None) };
    let key = SymmetricKey::from_base64(&text);
    key.map(Some)
        .map_err(|error| InvalidBody::argument(format!("authentication.symmetricKey.{name}: {error}")))
}

fn read_thumbprint(thumbprints: &Fields<'_>, name: &str) -> Result<Option<Thumbprint>, InvalidBody> {
    let Some(text) = thumbprints.text(name)? else { return Ok(None) };
    let thumbprint = Thumbprint::parse(&text);
    thumbprint
        .map(Some)
        .map_err(|error| InvalidBody::argument(format!("authentication.x509Thumbprint.{name}: {error}")))
}

/// Appends the answer of `GET /statistics/devices` (service §7).
pub fn write_device_statistics(enabled: u64, disabled: u64, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::new(out);
    object.count("totalDeviceCount", enabled + disabled);
    object.count("enabledDeviceCount", enabled).count("disabledDeviceCount", disabled);
    object.end();
}

/// Appends the answer of `GET /statistics/service` (service §7).
pub fn write_service_statistics(connected: u64, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::new(out);
    object.count("connectedDeviceCount", connected);
    object.end();
}

/// Appends the answer to a purge of a queue (service §5.1).
pub fn write_purge(id: &EntityId, purged: u64, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::new(out);
    object.string("deviceId", id.device());
    if let Some(module) = id.module() {
        object.string("moduleId", module);
    }
    object.count("totalMessagesPurged", purged);
    object.end();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::error::ErrorCode;
    use crate::rest::testing::{record, NOW};
    use ostler_core::record::Activity;

    fn read(body: &str) -> Result<IdentitySpec, (ErrorCode, String)> {
        let id = EntityId::parse("dev-1").unwrap();
        read_identity(&id, body.as_bytes()).map_err(|error| (error.code, error.text))
    }

    fn written(record: &Record, connection: ConnectionState) -> String {
        let mut out = Vec::new();
        write_identity(record, connection, 0, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_new_device() {
        insta::assert_snapshot!(written(&record("dev-1", "{}"), ConnectionState::Disconnected), @r#"{"deviceId":"dev-1","generationId":"638501544000000000","etag":"OA==","connectionState":"Disconnected","status":"enabled","statusReason":null,"statusUpdatedTime":"0001-01-01T00:00:00Z","connectionStateUpdatedTime":"0001-01-01T00:00:00Z","lastActivityTime":"0001-01-01T00:00:00Z","cloudToDeviceMessageCount":0,"authentication":{"symmetricKey":{"primaryKey":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=","secondaryKey":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="},"x509Thumbprint":{"primaryThumbprint":null,"secondaryThumbprint":null},"type":"sas"},"capabilities":{"iotEdge":false}}"#);
    }

    #[test]
    fn a_device_with_everything() {
        let body = r#"{"status":"disabled","statusReason":"lost \"it\"","capabilities":{"iotEdge":true},
            "deviceScope":"s1","parentScopes":["s0"],
            "authentication":{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":"aA:00112233445566778899aabbccddeeff001122"}}}"#;
        let mut record = record("dev-1", body);
        record.activity = Activity { connection_updated: NOW, last_activity: NOW };
        insta::assert_snapshot!(written(&record, ConnectionState::Connected), @r#"{"deviceId":"dev-1","generationId":"638501544000000000","etag":"OA==","connectionState":"Connected","status":"disabled","statusReason":"lost \"it\"","statusUpdatedTime":"0001-01-01T00:00:00Z","connectionStateUpdatedTime":"2024-05-01T10:00:00.0000000Z","lastActivityTime":"2024-05-01T10:00:00.0000000Z","cloudToDeviceMessageCount":0,"authentication":{"symmetricKey":{"primaryKey":null,"secondaryKey":null},"x509Thumbprint":{"primaryThumbprint":"aA00112233445566778899aabbccddeeff001122","secondaryThumbprint":null},"type":"selfSigned"},"capabilities":{"iotEdge":true},"deviceScope":"s1","parentScopes":["s0"]}"#);
    }

    #[test]
    fn a_module() {
        let body = r#"{"managedBy":"iotEdge","authentication":{"type":"certificateAuthority"}}"#;
        insta::assert_snapshot!(written(&record("dev-1/mod", body), ConnectionState::Disconnected), @r#"{"moduleId":"mod","managedBy":"iotEdge","deviceId":"dev-1","generationId":"638501544000000000","etag":"OA==","connectionState":"Disconnected","connectionStateUpdatedTime":"0001-01-01T00:00:00Z","lastActivityTime":"0001-01-01T00:00:00Z","cloudToDeviceMessageCount":0,"authentication":{"symmetricKey":{"primaryKey":null,"secondaryKey":null},"x509Thumbprint":{"primaryThumbprint":null,"secondaryThumbprint":null},"type":"certificateAuthority"}}"#);
    }

    #[test]
    fn what_is_written_may_be_sent_back() {
        let original = record("dev-1", r#"{"status":"disabled","statusReason":"r"}"#);
        let spec = read(&written(&original, ConnectionState::Connected)).unwrap();
        assert_eq!(spec.status, Some(Status::Disabled));
        assert_eq!(spec.status_reason.as_deref(), Some("r"));
        let Authentication::Sas { primary, secondary } = original.identity.authentication else {
            panic!("sas")
        };
        let expected = AuthenticationSpec::Sas { primary: Some(primary), secondary: Some(secondary) };
        assert_eq!(spec.authentication, expected);
    }

    #[test]
    fn authentication_is_inferred() {
        let of = |json: &str| read(&format!(r#"{{"authentication":{json}}}"#)).unwrap().authentication;
        let generate = AuthenticationSpec::Sas { primary: None, secondary: None };
        assert_eq!(of("null"), AuthenticationSpec::Unspecified);
        assert_eq!(of("{}"), AuthenticationSpec::Unspecified);
        assert_eq!(of(r#"{"type":null,"symmetricKey":null}"#), AuthenticationSpec::Unspecified);
        assert_eq!(of(r#"{"type":"sas"}"#), generate);
        assert_eq!(of(r#"{"type":"SAS","symmetricKey":{"primaryKey":null}}"#), generate);
        assert_eq!(of(r#"{"symmetricKey":{"primaryKey":"","secondaryKey":""}}"#), generate);
        assert_eq!(of(r#"{"type":"certificateAuthority"}"#), AuthenticationSpec::CertificateAuthority);
        assert_eq!(of(r#"{"type":"none"}"#), AuthenticationSpec::None);
        let key = SymmetricKey::from_base64("AAECAwQFBgcICQoLDA0ODw==").unwrap();
        let one = AuthenticationSpec::Sas { primary: Some(key), secondary: None };
        assert_eq!(of(r#"{"symmetricKey":{"primaryKey":"AAECAwQFBgcICQoLDA0ODw=="}}"#), one);
        let digits = "ab".repeat(20);
        let thumbprint = format!(
            r#"{{"x509Thumbprint":{{"secondaryThumbprint":"{digits}"}},"symmetricKey":{{"primaryKey":""}}}}"#
        );
        let print = Thumbprint::parse(&digits).ok();
        assert_eq!(of(&thumbprint), AuthenticationSpec::SelfSigned { primary: None, secondary: print });
    }

    #[test]
    fn what_is_refused() {
        let refused = |body: &str| read(body).unwrap_err();
        let argument = |text: &str| (ErrorCode::ArgumentInvalid, text.to_owned());
        assert_eq!(
            refused(r#"{"deviceId":"dev-2"}"#),
            argument("deviceId in the body is 'dev-2', in the path 'dev-1'")
        );
        assert_eq!(refused(r#"{"status":"off"}"#), argument("status is 'off', expected enabled or disabled"));
        assert_eq!(
            refused(r#"{"authentication":{"type":"magic"}}"#),
            argument(
                "authentication.type is 'magic', expected sas, selfSigned, certificateAuthority or none"
            )
        );
        assert_eq!(
            refused(r#"{"authentication":{"symmetricKey":{"primaryKey":"AAEC"}}}"#).0,
            ErrorCode::ArgumentInvalid
        );
        assert_eq!(
            refused(r#"{"authentication":{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":"xyz"}}}"#),
            argument("authentication.x509Thumbprint.primaryThumbprint: a thumbprint must be 40 or 64 hexadecimal digits")
        );
        assert_eq!(refused(r#"{"authentication":[]}"#).0, ErrorCode::DeserializationError);
        assert_eq!(refused("").0, ErrorCode::ArgumentNull);
    }

    #[test]
    fn small_answers() {
        let text = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            String::from_utf8(out).unwrap()
        };
        let id = EntityId::parse("d/m").unwrap();
        assert_eq!(
            text(&|out| write_device_statistics(2, 1, out)),
            r#"{"totalDeviceCount":3,"enabledDeviceCount":2,"disabledDeviceCount":1}"#
        );
        assert_eq!(text(&|out| write_service_statistics(1, out)), r#"{"connectedDeviceCount":1}"#);
        assert_eq!(
            text(&|out| write_purge(&id, 0, out)),
            r#"{"deviceId":"d","moduleId":"m","totalMessagesPurged":0}"#
        );
    }
}
