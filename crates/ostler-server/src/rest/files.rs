//! Handlers of file upload for devices (device §8.1) and of uploaded files for back ends. Each has three moves: take the
//! request apart, call the hub, write down what comes back.
//!
//! Must not know where files are.
//!
//! Invariant: of a file that is read, at most [`CHUNK`] bytes are in memory.

use super::answer::{empty, ok, Answer, Failure};
use super::body::Body;
use super::service::Context;
use base64::prelude::{Engine, BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::stream;
use http::{header, HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use ostler_core::file::FileKey;
use ostler_core::id::DeviceId;
use ostler_hub::files::{FileInfo, UploadOutcome};
use ostler_wire::rest::error::ErrorCode;
use ostler_wire::rest::file::{
    read_upload_end, read_upload_start, write_file, write_upload_place, FileRow, UploadPlace,
};
use ostler_wire::rest::identity::write_list;
use ostler_wire::rest::page::{
    read_continuation, read_max_items, CONTINUATION_HEADER, MAX_ITEM_COUNT_HEADER,
};
use ostler_wire::rest::storage::{http_date, Sas, CONTAINER};
use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// Bytes of a file read at a time.
const CHUNK: usize = 128 * 1024;

pub(super) async fn start(context: &Context<'_>, device: &DeviceId, body: &[u8]) -> Result<Answer, Failure> {
    let name = read_upload_start(body)?;
    let (key, grant) = context.app.hub.start_upload(device, &name).await?;
    let correlation_id = grant.upload.to_string();
    let host = public_host(context);
    let sas = Sas { identifier: correlation_id.clone(), expires: grant.expires, signature: grant.signature };
    let place = UploadPlace {
        correlation_id: &correlation_id,
        host: &host,
        container: CONTAINER,
        blob: key.as_str(),
        sas: &sas.to_query(),
    };
    let mut answer = ok(512, |out| write_upload_place(&place, out));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}

pub(super) async fn finish(
    context: &Context<'_>,
    device: &DeviceId,
    correlation: Option<&str>,
    body: &[u8],
) -> Result<Answer, Failure> {
    let end = read_upload_end(body, correlation)?;
    let outcome = UploadOutcome { success: end.success, status: end.status, description: end.description };
    let host = public_host(context);
    context.app.hub.finish_upload(device, &end.correlation_id, outcome, &host).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// The hub as this caller dialled it, if that is one of its names; a port only if it is not 443. So a device reaches the
/// files by the way on which it came.
fn public_host(context: &Context<'_>) -> String {
    let app = context.app;
    let dialled = context.headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (name, port) = match dialled.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, port),
        _ => (dialled, ""),
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let name = if app.hub.is_host(bare) { name } else { app.config.hostname.as_str() };
    match port {
        "" | "443" => name.to_owned(),
        port => format!("{name}:{port}"),
    }
}

pub(super) async fn list(context: &Context<'_>) -> Result<Answer, Failure> {
    let invalid = |text: String| Failure::new(ErrorCode::ArgumentInvalid, text);
    let device = context.query.value("device").filter(|text| !text.is_empty());
    let device = device.map(|text| DeviceId::new(&text)).transpose();
    let device = device.map_err(|error| invalid(format!("device: {error}")))?;
    let limit = read_max_items(context.header(MAX_ITEM_COUNT_HEADER)?)?;
    let token = read_continuation(context.header(CONTINUATION_HEADER)?);
    let after = token.map(|token| {
        let text = BASE64_URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        text.and_then(|text| FileKey::parse(&text).ok())
            .ok_or_else(|| invalid("the continuation token is not one of this list".to_owned()))
    });
    let after = after.transpose()?;
    let mut page = context.app.hub.list_files(device.as_ref(), after.as_ref(), limit + 1).await?;
    let more = page.len() > limit;
    page.truncate(limit);
    let mut answer =
        ok(page.len() * 320 + 2, |out| write_list(&page, out, |info, out| write_file(&row(info), out)));
    if let Some(last) = page.last().filter(|_| more) {
        let token = BASE64_URL_SAFE_NO_PAD.encode(last.key.as_str());
        if let Ok(token) = HeaderValue::from_str(&token) {
            answer.headers_mut().insert(HeaderName::from_static(CONTINUATION_HEADER), token);
        }
    }
    Ok(answer)
}

fn row(info: &FileInfo) -> FileRow<'_> {
    FileRow {
        device: info.key.device(),
        name: info.key.name(),
        size: info.size,
        modified: info.modified,
        etag: &info.etag,
        sha256: &info.sha256,
        content_type: info.content_type.as_deref(),
    }
}

fn read_key(file: &str) -> Result<FileKey, Failure> {
    FileKey::parse(file).map_err(|error| Failure::new(ErrorCode::ArgumentInvalid, error.to_string()))
}

pub(super) async fn delete(context: &Context<'_>, file: &str) -> Result<Answer, Failure> {
    context.app.hub.delete_file(&read_key(file)?).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) async fn get(context: &Context<'_>, file: &str) -> Result<Answer, Failure> {
    let (info, file) = context.app.hub.open_file(&read_key(file)?).await?;
    let quoted = format!("\"{}\"", info.etag);
    let range = match Range::read(context.headers, info.size, &quoted) {
        Ok(range) => range,
        Err(()) => {
            let text = format!("the range is not in the file, which has {} bytes", info.size);
            let failure =
                Failure::new(ErrorCode::ArgumentInvalid, text).with_status(StatusCode::RANGE_NOT_SATISFIABLE);
            let whole = HeaderValue::from_str(&format!("bytes */{}", info.size));
            return Err(match whole {
                Ok(whole) => failure.with_header(header::CONTENT_RANGE, whole),
                Err(_) => failure,
            });
        }
    };
    let (from, length) = range.map_or((0, info.size), |range| (range.from, range.length));
    let mut answer = Response::new(content(file, from, length));
    let headers = answer.headers_mut();
    let mut set = |name: HeaderName, text: &str| {
        // A device may name a media type that no header can have.
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    };
    // Whatever the device calls it: a browser must not run it as a page of the hub.
    set(header::CONTENT_TYPE, "application/octet-stream");
    set(HeaderName::from_static("x-ostler-content-type"), info.content_type.as_deref().unwrap_or_default());
    set(header::CONTENT_LENGTH, &length.to_string());
    set(header::ETAG, &quoted);
    set(header::LAST_MODIFIED, &http_date(info.modified));
    set(header::ACCEPT_RANGES, "bytes");
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    if range.is_some() {
        let end = (from + length).saturating_sub(1);
        set(header::CONTENT_RANGE, &format!("bytes {from}-{end}/{}", info.size));
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(answer)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    from: u64,
    length: u64,
}

impl Range {
    /// The one range that a request asks for; none when there are several or another unit, which a server may answer
    /// with everything (RFC 9110 §14.2), or when `If-Range` names another content.
    fn read(headers: &HeaderMap, size: u64, etag: &str) -> Result<Option<Range>, ()> {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        if text(header::IF_RANGE).is_some_and(|wanted| wanted != etag) {
            return Ok(None);
        }
        let range = text(header::RANGE).and_then(|text| text.strip_prefix("bytes="));
        let Some((from, to)) = range.and_then(|range| range.split_once('-')) else { return Ok(None) };
        let (from, last) = match (from.trim().parse::<u64>(), to.trim().parse::<u64>()) {
            (Ok(from), Ok(to)) if from <= to => (from, to.min(size.saturating_sub(1))),
            (Ok(from), Err(_)) if to.trim().is_empty() => (from, size.saturating_sub(1)),
            (Err(_), Ok(0)) if from.trim().is_empty() => return Err(()),
            (Err(_), Ok(count)) if from.trim().is_empty() => {
                (size.saturating_sub(count), size.saturating_sub(1))
            }
            _ => return Ok(None),
        };
        if from >= size {
            return Err(());
        }
        Ok(Some(Range { from, length: last - from + 1 }))
    }
}

/// Bytes of a file as they are asked for; they end early when the disk fails, which breaks the connection.
fn content(file: File, from: u64, length: u64) -> Body {
    struct Reader {
        file: File,
        from: u64,
        left: u64,
    }
    let reader = Reader { file, from, left: length };
    let pieces = stream::unfold(reader, |mut reader| async move {
        if reader.left == 0 {
            return None;
        }
        let read = move || {
            let count = usize::try_from(reader.left).unwrap_or(CHUNK).min(CHUNK);
            let mut piece = vec![0; count];
            reader.file.seek(SeekFrom::Start(reader.from))?;
            reader.file.read_exact(&mut piece)?;
            reader.from += count as u64;
            reader.left -= count as u64;
            Ok::<_, std::io::Error>((Bytes::from(piece), reader))
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok(piece)) => Some(piece),
            Ok(Err(error)) => {
                tracing::error!(%error, "an uploaded file cannot be read to its end");
                None
            }
            Err(_) => None,
        }
    });
    Body::Stream(Box::pin(pieces), None)
}

/// The address of a file for whoever watches uploads (service §12.4).
pub(super) fn blob_uri(host: &str, device: &str, name: &str) -> String {
    let encode = |text: &str| ostler_core::sas::percent_encode(text).replace("%2F", "/");
    format!("https://{host}/{CONTAINER}/{}/{}", Cow::from(encode(device)), encode(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(range: &str, if_range: Option<&str>, expected: Result<Option<(u64, u64)>, ()>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.parse().unwrap());
        if let Some(etag) = if_range {
            headers.insert(header::IF_RANGE, etag.parse().unwrap());
        }
        let got = Range::read(&headers, 10, "\"e\"");
        assert_eq!(got.map(|range| range.map(|range| (range.from, range.length))), expected, "{range}");
    }

    #[test]
    fn ranges() {
        check("bytes=0-3", None, Ok(Some((0, 4))));
        check("bytes=4-", None, Ok(Some((4, 6))));
        check("bytes=-3", None, Ok(Some((7, 3))));
        check("bytes=-30", None, Ok(Some((0, 10))));
        check("bytes=9-99", None, Ok(Some((9, 1))));
        check("bytes=10-", None, Err(()));
        check("bytes=-0", None, Err(()));
        for whole in ["bytes=3-1", "bytes=0-1,3-4", "lines=1-2", "bytes=a-b"] {
            check(whole, None, Ok(None));
        }
        check("bytes=0-3", Some("\"e\""), Ok(Some((0, 4))));
        check("bytes=0-3", Some("\"f\""), Ok(None));
        assert_eq!(Range::read(&HeaderMap::new(), 0, ""), Ok(None));
    }
}
