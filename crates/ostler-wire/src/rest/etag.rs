//! Etags and conditions as headers spell them (service §4).
//!
//! Must not know what an etag stands for.

/// The condition of an `If-Match` header, in the one form that all the clients' spellings come down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfMatch<'a> {
    /// No header, or an empty one: no condition, and on a PUT of an identity the wish to create it.
    Absent,
    /// `*`: any existing version.
    Any,
    /// Exactly this version; the etag is bare, without quotes.
    Etag(&'a str),
}

impl<'a> IfMatch<'a> {
    /// Reads a header's value: trims it, drops a weak mark and one pair of quotes. Clients send `"etag"`, `etag`, `*`,
    /// `"*"` and `""` for the same few things (service §4).
    pub fn parse(value: Option<&'a str>) -> IfMatch<'a> {
        match bare(value.unwrap_or_default()) {
            "" => IfMatch::Absent,
            "*" => IfMatch::Any,
            etag => IfMatch::Etag(etag),
        }
    }
}

/// An etag without the dress that a header or a client gives it. `W/` is a weak mark only before a quote: a bare etag in
/// base64 may begin so.
pub fn bare(value: &str) -> &str {
    let value = value.trim();
    let value = value.strip_prefix("W/").filter(|rest| rest.starts_with('"')).unwrap_or(value);
    value.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(value)
}

/// The value of an `ETag` header: quoted, whereas bodies carry it bare.
pub fn header_value(etag: &str) -> String {
    let mut value = String::with_capacity(etag.len() + 2);
    value.push('"');
    value.push_str(etag);
    value.push('"');
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_spelling_of_the_clients() {
        for (value, expected) in [
            (None, IfMatch::Absent),
            (Some(""), IfMatch::Absent),
            (Some("  "), IfMatch::Absent),
            (Some("\"\""), IfMatch::Absent),
            (Some("*"), IfMatch::Any),
            (Some("\"*\""), IfMatch::Any),
            (Some("W/\"*\""), IfMatch::Any),
            (Some("MQ=="), IfMatch::Etag("MQ==")),
            (Some("\"MQ==\""), IfMatch::Etag("MQ==")),
            (Some(" \"MQ==\" "), IfMatch::Etag("MQ==")),
            (Some("W/\"MQ==\""), IfMatch::Etag("MQ==")),
            (Some("\"\"MQ==\"\""), IfMatch::Etag("\"MQ==\"")),
            (Some("\""), IfMatch::Etag("\"")),
            (Some("\"MQ=="), IfMatch::Etag("\"MQ==")),
        ] {
            assert_eq!(IfMatch::parse(value), expected, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn a_written_etag_reads_back(etag in "[A-Za-z0-9+/]{1,40}={0,2}") {
            let header = header_value(&etag);
            prop_assert_eq!(IfMatch::parse(Some(&header)), IfMatch::Etag(&etag));
            prop_assert_eq!(IfMatch::parse(Some(&etag)), IfMatch::Etag(&etag));
        }

        #[test]
        fn any_value_is_read(value in "\\PC*") {
            let _ = IfMatch::parse(Some(&value));
        }
    }
}
