//! Shapes of Ostler's own routes under `/ostler/v1/`, as far as they are made of core's types.
//!
//! Must not know what the hub does with them.

use super::fields::{Fields, InvalidBody};
use super::identity::write_list;
use ostler_core::auth::{Policy, Rights};
use ostler_core::identity::SymmetricKey;
use ostler_core::json::{write_string, ObjectWriter};

/// A policy as a client asks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicySpec {
    /// Its name; the hub judges it.
    pub name: String,
    /// What it shall allow.
    pub rights: Rights,
    /// The first key, made by the hub when not given.
    pub primary: Option<SymmetricKey>,
    /// The second key, likewise.
    pub secondary: Option<SymmetricKey>,
}

/// Reads `{"name","rights":["ServiceConnect",…],"primaryKey"?,"secondaryKey"?}`.
///
/// # Errors
/// [`InvalidBody`] names the member.
pub fn read_policy(body: &[u8]) -> Result<PolicySpec, InvalidBody> {
    let fields = Fields::of_body(body)?;
    let mut rights = Rights::NONE;
    for name in fields.strings("rights")? {
        let right = Rights::parse(&name);
        rights = rights.union(right.ok_or_else(|| {
            let known = Rights::ALL.names().join(", ");
            InvalidBody::argument(format!("'{name}' is not a right; rights are RegistryRead, {known}"))
        })?);
    }
    Ok(PolicySpec {
        name: fields.text("name")?.ok_or_else(|| InvalidBody::missing("name"))?.into_owned(),
        rights,
        primary: read_key(&fields, "primaryKey")?,
        secondary: read_key(&fields, "secondaryKey")?,
    })
}

fn read_key(fields: &Fields<'_>, name: &str) -> Result<Option<SymmetricKey>, InvalidBody> {
    let Some(text) = fields.text(name)? else { return Ok(None) };
    let key = SymmetricKey::from_base64(&text);
    key.map(Some).map_err(|error| InvalidBody::argument(format!("{name}: {error}")))
}

/// Appends a policy with its keys.
pub fn write_policy(policy: &Policy, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::new(out);
    object.string("name", &policy.name);
    write_list(&policy.rights.names(), object.key("rights"), |name, out| write_string(name, out));
    object.string("primaryKey", &policy.primary.to_base64());
    object.string("secondaryKey", &policy.secondary.to_base64());
    object.end();
}

/// Reads one required text out of a body, such as `{"pem": …}` or `{"path": …}`.
///
/// # Errors
/// [`InvalidBody`] names the member.
pub fn read_text(body: &[u8], name: &'static str) -> Result<String, InvalidBody> {
    let text = Fields::of_body(body)?.text(name)?;
    Ok(text.ok_or_else(|| InvalidBody::missing(name))?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::error::ErrorCode;

    #[test]
    fn policies() {
        let body = br#"{"name":"ops","rights":["registrywrite","ServiceConnect"],"primaryKey":"AAECAwQFBgcICQoLDA0ODw=="}"#;
        let spec = read_policy(body).unwrap();
        assert_eq!(spec.rights, Rights::REGISTRY_WRITE.union(Rights::SERVICE_CONNECT));
        let policy = Policy {
            name: spec.name.into(),
            rights: spec.rights,
            primary: spec.primary.unwrap(),
            secondary: [1; 32].into(),
        };
        let mut out = Vec::new();
        write_policy(&policy, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"name":"ops","rights":["RegistryWrite","ServiceConnect"],"primaryKey":"AAECAwQFBgcICQoLDA0ODw==","secondaryKey":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="}"#
        );
    }

    #[test]
    fn refused_bodies() {
        let code = |body: &[u8]| read_policy(body).unwrap_err().code;
        assert_eq!(code(br#"{"rights":["ServiceConnect"]}"#), ErrorCode::ArgumentNull);
        assert_eq!(code(br#"{"name":"a","rights":["Everything"]}"#), ErrorCode::ArgumentInvalid);
        assert_eq!(code(br#"{"name":"a","rights":[],"primaryKey":"x"}"#), ErrorCode::ArgumentInvalid);
        assert_eq!(read_text(b"{}", "pem").unwrap_err().text, "pem is missing");
        assert_eq!(read_text(br#"{"path":"/tmp/x"}"#, "path").unwrap(), "/tmp/x");
    }
}
