//! The storage interface to which devices send files, as the official storage clients speak it (device §8.1): the
//! signature in the query, the list of blocks, and errors in XML.
//!
//! Must not know what is stored, or whether a signature is genuine.
//!
//! Invariant: what one end of this file writes, the other reads.

use super::query::Query;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use base64::Engine;
use ostler_core::sas::percent_encode;
use ostler_core::time::Timestamp;

/// The first segment of the path of every file that is being uploaded.
pub const CONTAINER: &str = "uploads";
/// The version that answers name.
pub const VERSION: &str = "2018-03-28";
/// Bytes of a list of blocks that are read: 50,000 blocks with the longest ids.
pub const BLOCK_LIST_BYTES: usize = 8 << 20;

/// A signature as a device shows it: the fields of the query that count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sas {
    /// The upload, in the field of stored identifiers, which clients hand on untouched.
    pub identifier: String,
    /// When it ends.
    pub expires: Timestamp,
    /// HMAC-SHA256.
    pub signature: [u8; 32],
}

impl Sas {
    /// The query string with its `?`.
    pub fn to_query(&self) -> String {
        let signature = URL_SAFE_NO_PAD.encode(self.signature);
        // Whole seconds, as the storage service writes them.
        let expires = self.expires.to_string();
        let expires = percent_encode(&format!("{}Z", expires.get(..19).unwrap_or(&expires)));
        format!(
            "?sv={VERSION}&sr=b&si={}&se={expires}&sp=cw&sig={signature}",
            percent_encode(&self.identifier)
        )
    }

    /// From a request's query.
    ///
    /// # Errors
    /// Says what is missing or malformed.
    pub fn from_query(query: Query<'_>) -> Result<Sas, &'static str> {
        let field = |name| query.value(name).filter(|text| !text.is_empty());
        let signature = field("sig").ok_or("the query has no signature (sig)")?;
        let signature = URL_SAFE_NO_PAD.decode(&*signature).ok().and_then(|bytes| bytes.try_into().ok());
        let expires = field("se").ok_or("the query has no expiry (se)")?;
        Ok(Sas {
            identifier: field("si").ok_or("the query has no identifier (si)")?.into_owned(),
            expires: parse_expiry(&expires).ok_or("the expiry (se) is not a time")?,
            signature: signature.ok_or("the signature (sig) cannot be one")?,
        })
    }
}

fn parse_expiry(text: &str) -> Option<Timestamp> {
    Timestamp::parse(text).or_else(|| Timestamp::parse(&format!("{}.0000000Z", text.strip_suffix('Z')?)))
}

/// What the storage service says went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "the names are the documentation; they are the service's own, but for the last one"
)]
pub enum StorageCode {
    AuthenticationFailed,
    BlobAlreadyExists,
    BlockCountExceedsLimit,
    InternalError,
    InvalidBlockId,
    InvalidBlockList,
    InvalidHeaderValue,
    InvalidQueryParameterValue,
    InvalidResourceName,
    InvalidXmlDocument,
    MissingRequiredHeader,
    OperationTimedOut,
    RequestBodyTooLarge,
    ServerBusy,
    UnsupportedHeader,
    InsufficientStorage,
}

impl StorageCode {
    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            StorageCode::AuthenticationFailed => 403,
            StorageCode::BlobAlreadyExists | StorageCode::BlockCountExceedsLimit => 409,
            StorageCode::InternalError => 500,
            StorageCode::RequestBodyTooLarge => 413,
            StorageCode::OperationTimedOut => 408,
            StorageCode::ServerBusy => 503,
            StorageCode::InsufficientStorage => 507,
            _ => 400,
        }
    }

    /// The name as clients compare it.
    pub fn name(self) -> String {
        format!("{self:?}")
    }
}

/// An error's body.
pub fn write_error(code: StorageCode, message: &str) -> String {
    let mut text = String::from("\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>");
    text.push_str(&code.name());
    text.push_str("</Code><Message>");
    for c in message.chars() {
        match c {
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '&' => text.push_str("&amp;"),
            c if c.is_control() => text.push(' '),
            c => text.push(c),
        }
    }
    text.push_str("</Message></Error>");
    text
}

/// The body of Put Block List: all of these blocks, in this order.
pub fn write_block_list<'a>(blocks: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
    for block in blocks {
        text.push_str("<Latest>");
        text.push_str(block);
        text.push_str("</Latest>");
    }
    text.push_str("</BlockList>");
    text
}

/// Reads a list of blocks: the decoded ids in their order. Base64 has no characters that XML would escape.
///
/// # Errors
/// Says what is not as it should be; also for blocks of an earlier file (`Committed`), which are not kept.
pub fn read_block_list(body: &[u8], most: usize) -> Result<Vec<Vec<u8>>, &'static str> {
    let text = std::str::from_utf8(body).map_err(|_| "the list of blocks is not UTF-8")?;
    let text = text.trim_start_matches('\u{feff}').trim();
    let text = match text.strip_prefix("<?xml") {
        Some(rest) => rest.split_once("?>").ok_or("the XML declaration does not end")?.1.trim_start(),
        None => text,
    };
    let compact = text.strip_prefix("<BlockList").map(|rest| rest.trim_start());
    if let Some("/>") = compact {
        return Ok(Vec::new());
    }
    let inside = text.strip_prefix("<BlockList>").and_then(|rest| rest.strip_suffix("</BlockList>"));
    let mut rest = inside.ok_or("the document is not a BlockList")?.trim();
    let mut blocks = Vec::new();
    while !rest.is_empty() {
        let (kind, after) = rest
            .strip_prefix('<')
            .and_then(|rest| rest.split_once('>'))
            .ok_or("the list has something other than elements")?;
        let (id, after) = after.split_once("</").ok_or("an element of the list does not end")?;
        let after = after.strip_prefix(kind).and_then(|rest| rest.strip_prefix('>'));
        match kind {
            "Latest" | "Uncommitted" => {}
            "Committed" => return Err("blocks of an earlier file (Committed) are not kept; send them again"),
            _ => return Err("the list has an element that is not Latest, Uncommitted or Committed"),
        }
        blocks.push(read_block_id(id.trim()).ok_or("a block's id is not the base64 of 1 to 64 bytes")?);
        if blocks.len() > most {
            return Err("the list has more blocks than a file may have");
        }
        rest = after.ok_or("an element of the list does not end as it began")?.trim_start();
    }
    Ok(blocks)
}

/// A block's id as the query and the list have it.
pub fn read_block_id(text: &str) -> Option<Vec<u8>> {
    let limit = ostler_core::limits::FILE_BLOCK_ID_BYTES;
    if text.len() > limit * 2 {
        return None;
    }
    // Some clients leave a plus unencoded and read it back as a space.
    let bytes = STANDARD.decode(text.replace(' ', "+")).ok()?;
    (1..=limit).contains(&bytes.len()).then_some(bytes)
}

/// A time as HTTP writes it, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date(time: Timestamp) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = time.to_string();
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or("00");
    let day = time.unix_secs().div_euclid(86_400).rem_euclid(7);
    let day = DAYS[usize::try_from(day).unwrap_or(0)];
    let month = MONTHS[part(5, 7).parse::<usize>().map_or(0, |month| month.saturating_sub(1)).min(11)];
    format!("{day}, {} {month} {} {} GMT", part(8, 10), part(0, 4), part(11, 19))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_signature_comes_back_also_when_a_client_encodes_it_anew() {
        let sas = Sas {
            identifier: "0123456789abcdef0123456789abcdef".into(),
            expires: Timestamp::from_unix_secs(1_800_000_000),
            signature: std::array::from_fn(|i| u8::try_from(i * 8).unwrap() ^ 0xf9),
        };
        let query = sas.to_query();
        assert!(query.starts_with("?sv=2018-03-28&sr=b&si=0123456789abcdef0123456789abcdef&se=2027-01-15T08%3A00%3A00Z&sp=cw&sig="), "{query}");
        assert_eq!(Sas::from_query(Query::new(Some(&query[1..]))), Ok(sas.clone()));
        let mut fields: Vec<&str> = query[1..].split('&').collect();
        fields.reverse();
        assert_eq!(Sas::from_query(Query::new(Some(&fields.join("&").replace("%3A", ":")))), Ok(sas));
        for broken in ["", "sig=x&se=1&si=a", "si=a&se=2027-01-15T08:00:00Z&sig=AAAA", "si=a&sig=AAAA"] {
            assert!(Sas::from_query(Query::new(Some(broken))).is_err(), "{broken}");
        }
    }

    /// As the Python, Node and C clients write it.
    #[test]
    fn lists_of_blocks() {
        let ids = |text: &str| read_block_list(text.as_bytes(), 3).map(|list| list.len());
        for text in [
            "<?xml version='1.0' encoding='utf-8'?>\n<BlockList><Latest>MDAwMDAw</Latest><Latest>MDAwMDAx</Latest></BlockList>",
            "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?><BlockList><Latest>MDAwMDAw</Latest><Latest>MDAwMDAx</Latest></BlockList>",
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n<BlockList>\r\n  <Latest>MDAwMDAw</Latest>\r\n  <Uncommitted>MDAwMDAx</Uncommitted>\r\n</BlockList>",
        ] {
            assert_eq!(ids(text), Ok(2), "{text}");
        }
        assert_eq!(ids("<BlockList />"), Ok(0));
        assert_eq!(ids("<BlockList></BlockList>"), Ok(0));
        assert_eq!(ids(&write_block_list(["MDAw", "MDAx"])), Ok(2));
        for text in [
            "",
            "<BlockList>",
            "<a></a>",
            "<BlockList><Latest>!</Latest></BlockList>",
            "<BlockList><Latest>MDAw</Committed></BlockList>",
            "<BlockList><Latest></Latest></BlockList>",
            "<BlockList><Committed>MDAw</Committed></BlockList>",
            "<BlockList>x</BlockList>",
            "<!DOCTYPE x [<!ENTITY a \"b\">]><BlockList></BlockList>",
        ] {
            assert!(ids(text).is_err(), "{text}");
        }
        assert!(ids(&write_block_list(["MDAw"; 4])).is_err());
    }

    #[test]
    fn errors_and_dates() {
        let text = write_error(StorageCode::ServerBusy, "a < b & c\n");
        assert!(text.ends_with("<Error><Code>ServerBusy</Code><Message>a &lt; b &amp; c </Message></Error>"));
        assert_eq!(http_date(Timestamp::from_unix_secs(784_111_777)), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    proptest! {
        #[test]
        fn any_list_is_answered(text in "\\PC*") {
            let _ = read_block_list(text.as_bytes(), 10);
            let _ = read_block_list(format!("<BlockList>{text}</BlockList>").as_bytes(), 10);
        }
    }
}
