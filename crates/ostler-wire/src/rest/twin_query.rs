//! The body of `POST /devices/query` (query §1).
//!
//! Must not know the query language: the text goes on as it is.

use super::error::ErrorCode;
use super::fields::{Fields, InvalidBody};
use ostler_core::json::{write_string, ObjectWriter};

/// Reads the query's text out of a body.
///
/// # Errors
/// [`InvalidBody`]: the code is `ArgumentNull` when there is no text, and the text that which the service answers then.
pub fn read_query(body: &[u8]) -> Result<String, InvalidBody> {
    let missing =
        || InvalidBody { code: ErrorCode::ArgumentNull, text: "BadRequest: query is missing".into() };
    if body.is_empty() {
        return Err(missing());
    }
    let text = Fields::of_body(body)?.text("query")?;
    Ok(text.filter(|text| !text.trim().is_empty()).ok_or_else(missing)?.into_owned())
}

/// Appends the body that asks a query.
pub fn write_query(text: &str, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::new(out);
    write_string(text, object.key("query"));
    object.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies() {
        let read = |text: &str| read_query(text.as_bytes()).map_err(|error| error.code);
        assert_eq!(read(r#"{"query":"SELECT * FROM devices"}"#).unwrap(), "SELECT * FROM devices");
        assert_eq!(read(r#"{"Query":"a\n\u0041","x":1}"#).unwrap(), "a\nA");
        for text in ["", "{}", r#"{"query":null}"#, r#"{"query":""}"#, r#"{"query":" "}"#] {
            assert_eq!(read(text), Err(ErrorCode::ArgumentNull), "{text}");
        }
        for text in ["[]", "{", r#"{"query":5}"#, r#"{"query":["a"]}"#] {
            assert_eq!(read(text), Err(ErrorCode::DeserializationError), "{text}");
        }
    }

    #[test]
    fn what_is_asked_reads_back() {
        let text = "SELECT * FROM devices WHERE tags.x = 'it''s \"é\"\n'";
        let mut out = Vec::new();
        write_query(text, &mut out);
        assert_eq!(read_query(&out).unwrap(), text);
    }
}
