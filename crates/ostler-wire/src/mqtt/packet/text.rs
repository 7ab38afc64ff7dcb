//! What MQTT allows as text (standard §1.5.3, §4.7).
//!
//! U+0000 is refused everywhere. Other control characters are accepted: the standard leaves that to the
//! receiver, and devices that do not percent-encode their message properties put anything they like into
//! topics (device §3.2).

use super::DecodeError;

/// Any encoded string: UTF-8 without U+0000.
pub(super) fn string(bytes: &[u8]) -> Result<&str, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::NotUtf8)?;
    if memchr::memchr(0, bytes).is_some() {
        return Err(DecodeError::NulCharacter);
    }
    Ok(text)
}

/// A topic name: a string that is not empty and holds no wildcard.
pub(super) fn topic(bytes: &[u8]) -> Result<&str, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::NotUtf8)?;
    if bytes.is_empty() {
        return Err(DecodeError::EmptyTopic);
    }
    if any(bytes, |byte| (byte == 0) | (byte == b'#') | (byte == b'+')) {
        return Err(match memchr::memchr(0, bytes) {
            Some(_) => DecodeError::NulCharacter,
            None => DecodeError::WildcardInTopic,
        });
    }
    Ok(text)
}

/// A topic filter: `+` and `#` stand alone in their level, and `#` only in the last.
pub(super) fn filter(bytes: &[u8]) -> Result<&str, DecodeError> {
    let text = string(bytes)?;
    if text.is_empty() {
        return Err(DecodeError::EmptyTopic);
    }
    let mut levels = text.split('/').peekable();
    while let Some(level) = levels.next() {
        let wild = level.contains(['+', '#']);
        if wild && (level.len() > 1 || (level == "#" && levels.peek().is_some())) {
            return Err(DecodeError::Filter);
        }
    }
    Ok(text)
}

/// Whether any byte satisfies `test`. Looks at sixteen bytes at a time, without a branch in between, so that
/// the compiler can use vector instructions: this runs for every message. The last sixteen may overlap those
/// before them, which costs less than looking at the rest one by one.
#[inline]
fn any(bytes: &[u8], test: impl Fn(u8) -> bool) -> bool {
    let in_chunk = |chunk: &[u8]| chunk.iter().fold(false, |found, &byte| found | test(byte));
    let Some(last) = bytes.last_chunk::<16>() else { return in_chunk(bytes) };
    let mut found = in_chunk(last);
    let mut rest = bytes;
    while let Some((chunk, behind)) = rest.split_first_chunk::<16>() {
        found |= in_chunk(chunk);
        rest = behind;
    }
    found
}
