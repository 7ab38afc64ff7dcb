//! Paging as the service spells it in headers, for queries and for lists of jobs (query §1, service §10.1).
//!
//! Must not know what is paged, nor what a continuation token holds.
//!
//! Invariant: a page has between 1 and [`MAX_ITEMS`] rows.

use super::fields::InvalidBody;

/// The request header with the size of a page.
pub const MAX_ITEM_COUNT_HEADER: &str = "x-ms-max-item-count";
/// The header with the token of the next page: in an answer only if there is a next page, never empty, because one client
/// takes any value for "there is more" (service §16).
pub const CONTINUATION_HEADER: &str = "x-ms-continuation";
/// The header with the kind of the rows.
pub const ITEM_TYPE_HEADER: &str = "x-ms-item-type";

/// The rows of a page when the client does not say.
pub const DEFAULT_ITEMS: usize = 100;
/// The most rows of a page; who asks for more gets this many.
pub const MAX_ITEMS: usize = 1000;

/// What the rows of an answer are. One client parses the word by its exact case (service §16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ItemType {
    /// Whole twins of devices or modules.
    Twin,
    /// Objects made by a select list.
    Raw,
    /// What a job did to one device.
    DeviceJob,
    /// Jobs.
    JobResponse,
}

impl ItemType {
    /// The wire's word.
    pub const fn name(self) -> &'static str {
        match self {
            ItemType::Twin => "Twin",
            ItemType::Raw => "Raw",
            ItemType::DeviceJob => "DeviceJob",
            ItemType::JobResponse => "JobResponse",
        }
    }
}

/// Reads the size of a page from the text of its header or parameter.
///
/// # Errors
/// [`InvalidBody`] when it is no number, or below 1.
pub fn read_max_items(text: Option<&str>) -> Result<usize, InvalidBody> {
    let Some(text) = text.map(str::trim) else { return Ok(DEFAULT_ITEMS) };
    let digits = text.strip_prefix('+').unwrap_or(text);
    // A number may be larger than any integer type and is still a number.
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let count = digits.parse().unwrap_or(usize::MAX).min(MAX_ITEMS);
        if count > 0 {
            return Ok(count);
        }
    }
    let shown: String = text.chars().take(32).collect();
    Err(InvalidBody::argument(format!("{MAX_ITEM_COUNT_HEADER} is '{shown}', allowed are 1 to {MAX_ITEMS}")))
}

/// Reads the continuation token from the text of its header; an empty one is none.
pub fn read_continuation(text: Option<&str>) -> Option<&str> {
    text.map(str::trim).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::error::ErrorCode;

    #[test]
    fn sizes_of_pages() {
        for (text, count) in [
            (None, 100),
            (Some("1"), 1),
            (Some(" 7 "), 7),
            (Some("+7"), 7),
            (Some("1000"), 1000),
            (Some("1001"), 1000),
            (Some("99999999999999999999999999"), 1000),
        ] {
            assert_eq!(read_max_items(text), Ok(count), "{text:?}");
        }
        for text in ["", "0", "-1", "ten", "1.5", "1e2", "0x10", "+", "٣"] {
            assert_eq!(read_max_items(Some(text)).unwrap_err().code, ErrorCode::ArgumentInvalid, "{text}");
        }
    }

    #[test]
    fn tokens() {
        assert_eq!(read_continuation(None), None);
        assert_eq!(read_continuation(Some("  ")), None);
        assert_eq!(read_continuation(Some(" abc ")), Some("abc"));
    }
}
