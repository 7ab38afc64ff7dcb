//! Continuation tokens: where a query stopped, in the client's hands.
//!
//! ```text
//! base64url( version 1 | hash of the query 8 | HMAC-SHA256 32 | place, JSON )
//! ```
//!
//! The signature covers the version, the query's full hash and the place, under a key of this hub that its store keeps: so
//! nobody can make one, use one for another query, or change one, and one is good as long as the data is.
//!
//! Must not know: how a query is answered.
//!
//! Invariant: a place comes out only if it went in for the same query text and the same dialect.

use crate::error::Error;
use crate::hub::lasting_key;
use base64::prelude::{Engine, BASE64_URL_SAFE_NO_PAD};
use ostler_core::json::{write_string, Value};
use ostler_core::query::Dialect;
use ostler_store::Store;
use ring::rand::SystemRandom;
use ring::{digest, hmac};

const SETTING: &str = "query-tokens";
const VERSION: u8 = 1;
/// Part of the query's hash that is sent, to tell another query's token from a broken one.
const HASH_BYTES: usize = 8;
const MAC_BYTES: usize = 32;
/// Bytes of a place. Longer ones, which only very long texts to order by make, would not fit the headers that clients take:
/// one has 16 KiB for all of them.
const PLACE_BYTES: usize = 9 * 1024;

/// A value to go on behind; `None` is undefined.
pub(crate) type Datum = Option<Value>;

/// Where to go on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    /// Rows that may still come, for queries with a limit.
    pub(crate) left: Option<u64>,
    /// Behind what.
    pub(crate) after: After,
}

/// The last row that was handed out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum After {
    /// The row with this key, and with these values in the columns that order the rows.
    Row {
        /// One for each column.
        values: Vec<Datum>,
        /// An entity's id, or `job/device`.
        key: Box<str>,
    },
    /// The group of rows that have `key` in common, with these values in what orders the groups.
    Group {
        /// What the rows were gathered by.
        key: Datum,
        /// One for each part of the order.
        values: Vec<Datum>,
    },
}

/// Makes and reads tokens.
pub(crate) struct Tokens(hmac::Key);

impl Tokens {
    /// Takes the store's key; makes one when there is none yet.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn load(store: &dyn Store, random: &SystemRandom) -> Result<Tokens, Error> {
        Ok(Tokens(lasting_key(store, random, SETTING).await?))
    }

    /// A token for a place in a query.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the place would be too long for a token.
    pub(crate) fn seal(&self, text: &str, dialect: Dialect, place: &Place) -> Result<String, Error> {
        let mut written = Vec::new();
        place.write(&mut written);
        if written.len() > PLACE_BYTES {
            let text = "the values that order the rows are too long to go on behind; \
                        order by shorter ones, or ask for all rows in one page";
            return Err(Error::InvalidArgument(text.into()));
        }
        let hash = query_hash(text, dialect);
        let mut token = vec![VERSION];
        token.extend_from_slice(&hash.as_ref()[..HASH_BYTES]);
        token.extend_from_slice(hmac::sign(&self.0, &signed(&hash, &written)).as_ref());
        token.extend_from_slice(&written);
        Ok(BASE64_URL_SAFE_NO_PAD.encode(token))
    }

    /// The place of a token.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when it is no token of this hub, or one of another query.
    pub(crate) fn open(&self, text: &str, dialect: Dialect, token: &str) -> Result<Place, Error> {
        let refused = |text: &str| Error::InvalidArgument(format!("the continuation token {text}"));
        let foreign = || refused("is not one of this hub's, or was changed");
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| foreign())?;
        let (version, rest) = bytes.split_first().ok_or_else(foreign)?;
        let (shown, rest) = rest.split_at_checked(HASH_BYTES).ok_or_else(foreign)?;
        let (mac, written) = rest.split_at_checked(MAC_BYTES).ok_or_else(foreign)?;
        if *version != VERSION {
            return Err(foreign());
        }
        let hash = query_hash(text, dialect);
        if shown != &hash.as_ref()[..HASH_BYTES] {
            return Err(refused("belongs to another query; a query's text is sent again with every page"));
        }
        hmac::verify(&self.0, &signed(&hash, written), mac).map_err(|_| foreign())?;
        Place::read(written).ok_or_else(foreign)
    }
}

fn query_hash(text: &str, dialect: Dialect) -> digest::Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(match dialect {
        Dialect::Extended => b"e",
        Dialect::Strict => b"s",
    });
    context.update(text.as_bytes());
    context.finish()
}

fn signed(hash: &digest::Digest, written: &[u8]) -> Vec<u8> {
    [&[VERSION], hash.as_ref(), written].concat()
}

impl Place {
    /// `[left, word, …]`; a value is an array of itself, so that an empty one is "undefined".
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        match self.left {
            Some(left) => out.extend_from_slice(left.to_string().as_bytes()),
            None => out.extend_from_slice(b"null"),
        }
        let text = |text: &str, out: &mut Vec<u8>| {
            out.push(b',');
            write_string(text, out);
        };
        match &self.after {
            After::Row { values, key } => {
                text("row", out);
                text(key, out);
                values.iter().for_each(|value| write_datum(value, out));
            }
            After::Group { key, values } => {
                text("group", out);
                write_datum(key, out);
                values.iter().for_each(|value| write_datum(value, out));
            }
        }
        out.push(b']');
    }

    fn read(written: &[u8]) -> Option<Place> {
        let Value::Array(parts) = Value::parse(written).ok()? else { return None };
        let mut parts = parts.into_iter();
        let left = match parts.next()? {
            Value::Null => None,
            left => Some(u64::try_from(left.as_i64()?).ok()?),
        };
        let word = parts.next()?;
        let after = match word.as_str()? {
            "row" => {
                let key = parts.next()?.as_str()?.into();
                After::Row { key, values: parts.map(read_datum).collect::<Option<_>>()? }
            }
            "group" => {
                let key = read_datum(parts.next()?)?;
                After::Group { key, values: parts.map(read_datum).collect::<Option<_>>()? }
            }
            _ => return None,
        };
        Some(Place { left, after })
    }
}

fn write_datum(datum: &Datum, out: &mut Vec<u8>) {
    out.extend_from_slice(b",[");
    if let Some(value) = datum {
        value.write_to(out);
    }
    out.push(b']');
}

fn read_datum(value: Value) -> Option<Datum> {
    match value {
        Value::Array(mut values) if values.len() <= 1 => Some(values.pop()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ostler_store::Embedded;

    const TEXT: &str = "SELECT * FROM devices";

    async fn tokens(store: &dyn Store) -> Tokens {
        Tokens::load(store, &SystemRandom::new()).await.unwrap()
    }

    fn place() -> Place {
        let value = |text: &str| Some(Value::parse(text.as_bytes()).unwrap());
        let values = vec![None, value("null"), value("1.50"), value("\"é\""), value("[1,{\"a\":[]}]")];
        Place { left: Some(7), after: After::Row { values, key: "d/m".into() } }
    }

    #[tokio::test]
    async fn a_token_gives_back_what_it_was_made_of() {
        let store = Embedded::in_memory();
        let made = tokens(&store).await;
        let places = [
            place(),
            Place { left: None, after: After::Group { key: Some(Value::Null), values: vec![None] } },
            Place { left: Some(0), after: After::Group { key: None, values: Vec::new() } },
        ];
        for place in places {
            let token = made.seal(TEXT, Dialect::Extended, &place).unwrap();
            assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            // Another start of the same hub reads it too.
            assert_eq!(tokens(&store).await.open(TEXT, Dialect::Extended, &token).unwrap(), place);
        }
    }

    #[tokio::test]
    async fn no_other_token_is_taken() {
        let made = tokens(&Embedded::in_memory()).await;
        let token = made.seal(TEXT, Dialect::Extended, &place()).unwrap();
        let refused = |tokens: &Tokens, text: &str, dialect, token: &str| {
            tokens.open(text, dialect, token).unwrap_err().to_string()
        };
        let changed = "the continuation token is not one of this hub's, or was changed";
        let other = refused(&made, "SELECT * FROM devices ", Dialect::Extended, &token);
        assert!(other.contains("belongs to another query"), "{other}");
        assert_eq!(refused(&made, TEXT, Dialect::Strict, &token), other);
        let elsewhere = tokens(&Embedded::in_memory()).await;
        assert_eq!(refused(&elsewhere, TEXT, Dialect::Extended, &token), changed);
        for bad in ["", "x", "AQ", "not base64!", &token[..60], &format!("{token}AAAA")] {
            assert_eq!(refused(&made, TEXT, Dialect::Extended, bad), changed, "{bad}");
        }
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let text = String::from_utf8(bytes).unwrap();
            assert!(made.open(TEXT, Dialect::Extended, &text).is_err(), "byte {at}");
        }
    }

    #[tokio::test]
    async fn a_place_that_fits_no_header_is_refused() {
        let made = tokens(&Embedded::in_memory()).await;
        let long = Some(Value::String("x".repeat(4096).into()));
        let row = |n| After::Row { values: vec![long.clone(); n], key: "d".into() };
        let place = |n| Place { left: None, after: row(n) };
        assert!(made.seal(TEXT, Dialect::Extended, &place(2)).is_ok());
        assert!(made.seal(TEXT, Dialect::Extended, &place(3)).is_err());
    }
}
