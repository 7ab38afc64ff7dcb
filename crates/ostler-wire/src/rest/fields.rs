//! Reading the members of a JSON object that a client sent.
//!
//! Must not know which members an object should have.
//!
//! Invariant: names are compared without regard to ASCII case, as the service's own reader does; `null` is the same as
//! absent.

use super::error::ErrorCode;
use ostler_core::json::Raw;
use std::borrow::Cow;

/// Why a body is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct InvalidBody {
    /// The code of the answer.
    pub code: ErrorCode,
    /// What is wrong, with the member's name where there is one.
    pub text: String,
}

impl InvalidBody {
    /// A value that breaks a rule: 400004.
    pub(crate) fn argument(text: impl Into<String>) -> InvalidBody {
        InvalidBody { code: ErrorCode::ArgumentInvalid, text: text.into() }
    }

    /// A value that should be there and is not: 400005.
    pub(crate) fn missing(name: &str) -> InvalidBody {
        InvalidBody { code: ErrorCode::ArgumentNull, text: format!("{name} is missing") }
    }

    /// Text that is not JSON, or JSON of another shape: 400012.
    pub(crate) fn shape(text: impl Into<String>) -> InvalidBody {
        InvalidBody { code: ErrorCode::DeserializationError, text: text.into() }
    }
}

/// Reads a body that must be one JSON value.
pub(crate) fn json(body: &[u8]) -> Result<Raw<'_>, InvalidBody> {
    if body.is_empty() {
        return Err(InvalidBody::missing("the request's body"));
    }
    Raw::parse(body).map_err(|error| InvalidBody::shape(format!("the body is not valid JSON: {error}")))
}

/// The members of an object, each still as text.
pub(crate) struct Fields<'a>(Vec<(Cow<'a, str>, Raw<'a>)>);

impl<'a> Fields<'a> {
    /// The members of a body.
    pub(crate) fn of_body(body: &'a [u8]) -> Result<Fields<'a>, InvalidBody> {
        Fields::of(json(body)?).ok_or_else(|| InvalidBody::shape("the body must be a JSON object"))
    }

    /// The members of an object, `None` for other values.
    pub(crate) fn of(json: Raw<'a>) -> Option<Fields<'a>> {
        json.members().map(Fields)
    }

    /// A member, unless absent or `null`.
    pub(crate) fn get(&self, name: &str) -> Option<Raw<'a>> {
        self.given(name).filter(|value| !value.is_null())
    }

    /// A member, also when it is `null`. The exact spelling counts more than a similar one.
    pub(crate) fn given(&self, name: &str) -> Option<Raw<'a>> {
        let exact = self.0.iter().find(|(key, _)| key == name);
        exact
            .or_else(|| self.0.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)))
            .map(|(_, value)| *value)
    }

    /// A string member.
    pub(crate) fn string(&self, name: &str) -> Result<Option<Cow<'a, str>>, InvalidBody> {
        let wrong = || InvalidBody::shape(format!("{name} must be a string"));
        self.get(name).map(|value| value.as_string().ok_or_else(wrong)).transpose()
    }

    /// A string member; an empty one is the same as none.
    pub(crate) fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>, InvalidBody> {
        Ok(self.string(name)?.filter(|text| !text.is_empty()))
    }

    /// An integer member.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, InvalidBody> {
        let wrong = || InvalidBody::shape(format!("{name} must be an integer"));
        self.get(name).map(|value| value.as_i64().ok_or_else(wrong)).transpose()
    }

    /// A boolean member.
    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, InvalidBody> {
        match self.get(name).map(Raw::text) {
            None => Ok(None),
            Some(b"true") => Ok(Some(true)),
            Some(b"false") => Ok(Some(false)),
            Some(_) => Err(InvalidBody::shape(format!("{name} must be true or false"))),
        }
    }

    /// An object member; no members when it is absent.
    pub(crate) fn fields(&self, name: &str) -> Result<Fields<'a>, InvalidBody> {
        match self.get(name) {
            None => Ok(Fields(Vec::new())),
            Some(value) => {
                Fields::of(value).ok_or_else(|| InvalidBody::shape(format!("{name} must be an object")))
            }
        }
    }

    /// A member that is a list of strings; empty when it is absent.
    pub(crate) fn strings(&self, name: &str) -> Result<Vec<Cow<'a, str>>, InvalidBody> {
        let wrong = || InvalidBody::shape(format!("{name} must be a list of strings"));
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let elements = value.elements().ok_or_else(wrong)?;
        elements.into_iter().map(|element| element.as_string().ok_or_else(wrong)).collect()
    }

    /// A list member, each element still as text; `None` when it is absent.
    pub(crate) fn elements(&self, name: &str) -> Result<Option<Vec<Raw<'a>>>, InvalidBody> {
        let wrong = || InvalidBody::shape(format!("{name} must be a list"));
        self.get(name).map(|value| value.elements().ok_or_else(wrong)).transpose()
    }

    /// Refuses members of other names, where ignoring a misspelt one would do harm.
    pub(crate) fn allow_only(&self, what: &str, names: &[&str]) -> Result<(), InvalidBody> {
        let known = |key: &str| names.iter().any(|name| key.eq_ignore_ascii_case(name));
        match self.0.iter().find(|(key, _)| !known(key)) {
            None => Ok(()),
            Some((key, _)) => {
                let shown: String = key.chars().take(64).collect();
                let names = names.join(", ");
                Err(InvalidBody::argument(format!("{what} has no member '{shown}'; there are {names}")))
            }
        }
    }

    /// Whether there are no members.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_in_any_spelling() {
        let fields =
            Fields::of_body(br#"{"etag":"a","eTag":"b","N":null,"i":5,"s":"","l":["x"],"t":true}"#).unwrap();
        assert_eq!(fields.string("eTag").unwrap().as_deref(), Some("b"));
        assert_eq!(fields.string("ETAG").unwrap().as_deref(), Some("a"));
        assert!(fields.get("n").is_none() && fields.given("n").is_some());
        assert_eq!(fields.integer("I"), Ok(Some(5)));
        assert_eq!(fields.text("s"), Ok(None));
        assert_eq!(fields.strings("l").unwrap(), ["x"]);
        assert_eq!(fields.boolean("t"), Ok(Some(true)));
    }

    #[test]
    fn what_is_not_of_the_right_kind_is_named() {
        let fields = Fields::of_body(br#"{"a":1.5,"b":[1]}"#).unwrap();
        let text = |error: InvalidBody| (error.code, error.text);
        let code = ErrorCode::DeserializationError;
        assert_eq!(text(fields.string("a").unwrap_err()), (code, "a must be a string".into()));
        assert_eq!(text(fields.integer("a").unwrap_err()), (code, "a must be an integer".into()));
        assert_eq!(text(fields.strings("b").unwrap_err()), (code, "b must be a list of strings".into()));
        assert_eq!(
            text(Fields::of_body(b"[]").err().unwrap()),
            (code, "the body must be a JSON object".into())
        );
        let empty = Fields::of_body(b"").err().unwrap();
        assert_eq!(text(empty), (ErrorCode::ArgumentNull, "the request's body is missing".into()));
        let cut = Fields::of_body(b"{\"a\":").err().unwrap();
        assert_eq!(cut.code, code);
    }
}
