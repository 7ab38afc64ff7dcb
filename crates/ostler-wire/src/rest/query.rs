//! The query string of a request: its parameters and the `api-version` rule (service §1.2).
//!
//! Invariant: unknown parameters are ignored (service §1.3); of a repeated one the first counts.

use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// The parameters of a query string, read in place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// From the part of the request target after `?`.
    pub fn new(raw: Option<&'a str>) -> Query<'a> {
        Query(raw.unwrap_or_default())
    }

    /// The decoded value of a parameter; names are compared without regard to ASCII case. `None` also for a value that
    /// is not UTF-8. `+` is a plus, as in the path.
    pub fn value(self, name: &str) -> Option<Cow<'a, str>> {
        self.0.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            key.eq_ignore_ascii_case(name).then(|| percent_decode_str(value).decode_utf8().ok()).flatten()
        })
    }
}

/// The first `api-version` the service ever had, 2016-02-03, as a number.
const OLDEST: u32 = 20_160_203;

/// Why a request's `api-version` is refused; the answer is 400001 `InvalidProtocolVersion`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Not there.
    #[error("the query parameter api-version is missing; use for instance api-version=2021-04-12")]
    Missing,
    /// Not of the form of a version.
    #[error("api-version '{0}' is not of the form YYYY-MM-DD or YYYY-MM-DD-preview")]
    Malformed(String),
    /// Before the oldest version that is spoken.
    #[error("api-version '{0}' is older than 2016-02-03, the oldest this hub speaks")]
    TooOld(String),
}

/// Checks the `api-version` of a request. Any version from 2016-02-03 on is taken, also those still to come: what clients
/// rely on has not changed since.
///
/// # Errors
/// [`VersionError`] names the rule that is broken.
pub fn check_api_version(query: Query<'_>) -> Result<(), VersionError> {
    let text = query.value("api-version").ok_or(VersionError::Missing)?;
    let shown = || text.chars().take(32).collect();
    let date = text.strip_suffix("-preview").unwrap_or(&text);
    let version = parse_date(date).ok_or_else(|| VersionError::Malformed(shown()))?;
    if version < OLDEST {
        return Err(VersionError::TooOld(shown()));
    }
    Ok(())
}

/// `YYYY-MM-DD` as the number `YYYYMMDD`.
fn parse_date(text: &str) -> Option<u32> {
    let bytes = text.as_bytes();
    let shape = bytes.len() == 10
        && bytes
            .iter()
            .enumerate()
            .all(|(i, b)| if matches!(i, 4 | 7) { *b == b'-' } else { b.is_ascii_digit() });
    if !shape {
        return None;
    }
    let number = bytes.iter().filter(|b| **b != b'-').fold(0, |n, b| n * 10 + u32::from(b - b'0'));
    let (month, day) = (number / 100 % 100, number % 100);
    ((1..=12).contains(&month) && (1..=31).contains(&day)).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let query = Query::new(Some("top=5&Api-Version=2021-04-12&x&top=6&q=a%20b+c&bad=%ff"));
        assert_eq!(query.value("top").as_deref(), Some("5"));
        assert_eq!(query.value("api-version").as_deref(), Some("2021-04-12"));
        assert_eq!(query.value("x").as_deref(), Some(""));
        assert_eq!(query.value("q").as_deref(), Some("a b+c"));
        assert_eq!(query.value("bad"), None);
        assert_eq!(query.value("y"), None);
        assert_eq!(Query::new(None).value("y"), None);
    }

    #[test]
    fn versions() {
        let check = |text: &str| check_api_version(Query::new(Some(text)));
        for good in [
            "2016-02-03",
            "2018-06-30",
            "2020-05-31-preview",
            "2020-09-30",
            "2021-04-12",
            "2024-03-31",
            "2031-01-01",
        ] {
            assert_eq!(check(&format!("api-version={good}")), Ok(()), "{good}");
        }
        assert_eq!(check(""), Err(VersionError::Missing));
        assert_eq!(check("api-version=2015-01-01"), Err(VersionError::TooOld("2015-01-01".into())));
        for bad in [
            "",
            "1.0",
            "2021-4-12",
            "2021-04-12-beta",
            "2021-13-01",
            "2021-00-10",
            "2021-01-32",
            "2021/04/12",
            "٢021-04-12",
        ] {
            assert_eq!(
                check(&format!("api-version={bad}")),
                Err(VersionError::Malformed(bad.into())),
                "{bad}"
            );
        }
    }
}
