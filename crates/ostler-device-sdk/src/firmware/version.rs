//! Versions and which of two is newer.
//!
//! ```text
//! 1.10.2-rc.1+build5      numbers separated by dots, perhaps a pre-release after "-", perhaps a build after "+"
//! ```
//! The order is that of semantic versions, for any count of numbers from one to eight: numbers compare as numbers, missing ones are 0,
//! a pre-release is older than its release, pre-release parts compare one by one (numbers as numbers and below words, words
//! by their bytes, fewer parts below more), builds do not count.
//!
//! Must not know: what a version is of.
//!
//! Invariant: `a == b` exactly when neither is newer than the other.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest text of a version in bytes.
pub const MAX_VERSION: usize = 64;
const MAX_NUMBERS: usize = 8;

/// A version that can be compared with others.
///
/// ```
/// use ostler_device_sdk::firmware::Version;
///
/// let version = |text: &str| text.parse::<Version>();
/// assert!(version("1.10")? > version("1.9.4")?);
/// assert!(version("2.0-rc.1")? < version("2.0")?);
/// assert_eq!(version("2.0")?, version("2.0.0+build.7")?);
/// assert!(version("v2").is_err());
/// # Ok::<(), ostler_device_sdk::firmware::BadVersion>(())
/// ```
#[derive(Debug, Clone)]
pub struct Version {
    text: String,
    numbers: Vec<u64>,
    pre: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    // The derived order puts numbers below words.
    Number(u64),
    Word(String),
}

/// The text is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no version: expected numbers with dots such as 1.4.2, perhaps with -rc.1 or +build behind, in at most 64 bytes")]
pub struct BadVersion(String);

impl Version {
    /// The version as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Version {
    type Err = BadVersion;

    fn from_str(text: &str) -> Result<Self, BadVersion> {
        let bad = || BadVersion(text.chars().take(MAX_VERSION).collect());
        if text.len() > MAX_VERSION {
            return Err(bad());
        }
        let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
        let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
        if build.is_some_and(|build| !build.split('.').all(is_word)) {
            return Err(bad());
        }
        let mut numbers = core.split('.').map(number).collect::<Option<Vec<_>>>().ok_or_else(bad)?;
        if numbers.len() > MAX_NUMBERS {
            return Err(bad());
        }
        while numbers.len() > 1 && numbers.last() == Some(&0) {
            numbers.pop();
        }
        let pre = match pre {
            Some(pre) => pre.split('.').map(part).collect::<Option<Vec<_>>>().ok_or_else(bad)?,
            None => Vec::new(),
        };
        Ok(Self { text: text.to_owned(), numbers, pre })
    }
}

fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

fn part(text: &str) -> Option<Part> {
    if !is_word(text) {
        return None;
    }
    match text.bytes().all(|b| b.is_ascii_digit()) {
        true => number(text).map(Part::Number),
        false => Some(Part::Word(text.to_owned())),
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let release = |version: &Self| version.pre.is_empty();
        self.numbers.cmp(&other.numbers).then_with(|| match (release(self), release(other)) {
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            _ => self.pre.cmp(&other.pre),
        })
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn older_comes_before_newer() {
        let order = [
            "0.9",
            "1.0.0-alpha",
            "1-alpha.1",
            "1.0-alpha.beta",
            "1-beta",
            "1-beta.2",
            "1-beta.11",
            "1-rc.1",
            "1.0.0",
            "1.0.0.1",
            "1.2",
            "1.10.0",
            "1.10.1",
            "2-0",
            "2-x",
            "2",
            "2026.11.20",
        ];
        for (i, older) in order.iter().enumerate() {
            for (j, newer) in order.iter().enumerate() {
                assert_eq!(version(older).cmp(&version(newer)), i.cmp(&j), "{older} {newer}");
            }
        }
        assert_eq!(version("1.0"), version("1.0.0+build.7"));
        assert_eq!(version("01.2"), version("1.2"));
    }

    #[test]
    fn what_is_no_version_is_refused() {
        let long = "1".repeat(65);
        for text in [
            "",
            "v1",
            "1.",
            ".1",
            "1..2",
            "1.x",
            "1-",
            "1-a..b",
            "1+",
            "1 ",
            "1-é",
            "99999999999999999999",
            &long,
            "1.2.3.4.5.6.7.8.9",
        ] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_order_is_total(texts in prop::array::uniform3("[0-3]{1,2}(\\.[0-2]){0,3}(-[a0-2]{1,2}(\\.[ab1]){0,2})?")) {
            let [a, b, c] = texts.map(|text| version(&text));
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            if a <= b && b <= c {
                prop_assert!(a <= c);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}") {
            if let Ok(version) = text.parse::<Version>() {
                prop_assert_eq!(version.to_string(), text);
            }
        }
    }
}
