//! The storage door: Put Blob, Put Block and Put Block List, as the official storage clients send them to the place that
//! the start of an upload named (device §8.1).
//!
//! Must not know where files are, or whose signature is genuine; the hub does.
//!
//! Invariant: a body goes to the disk as it comes; one that comes too slowly, or that its upload's end finds on its way,
//! is given up.
//! Invariant: every answer has the form of the storage service, errors included.

use super::answer::Answer;
use super::body::BodyError;
use super::service::Context;
use crate::peer::Peer;
use bytes::Bytes;
use http::{header, HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Incoming};
use ostler_core::file::FileKey;
use ostler_core::limits::FILE_BLOCKS;
use ostler_hub::files::{FileError, FileInfo, IncomingFile, Replace, StoreAs, UploadGrant};
use ostler_store::ContentId;
use ostler_wire::rest::query::Query;
use ostler_wire::rest::storage::{
    http_date, read_block_id, read_block_list, write_error, Sas, StorageCode, BLOCK_LIST_BYTES, VERSION,
};
use std::borrow::Cow;
use std::time::Duration;
use tokio::time::{timeout, timeout_at, Instant};

/// Bytes a second below which a body is given up, once the patience for any body is over.
const SLOWEST: u64 = 4096;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");
const STORAGE_VERSION: HeaderName = HeaderName::from_static("x-ms-version");
const STORAGE_ERROR: HeaderName = HeaderName::from_static("x-ms-error-code");

/// Why a request was not done.
struct Refusal {
    code: StorageCode,
    text: Cow<'static, str>,
}

impl Refusal {
    fn new(code: StorageCode, text: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { code, text: text.into() }
    }
}

/// What a request asks for.
enum Operation {
    Whole,
    Block(Vec<u8>),
    List,
}

/// Answers one request. What is left in `incoming` was not read.
pub(super) async fn put(
    context: &Context<'_>,
    peer: &Peer,
    blob: &str,
    incoming: &mut Option<Incoming>,
) -> Answer {
    let mut answer = match store(context, peer, blob, incoming).await {
        Ok(stored) => created(stored.as_ref()),
        Err(refusal) => {
            let Refusal { code, text } = &refusal;
            tracing::debug!(code = code.name(), %text, %peer, "a file was refused");
            refused(&refusal)
        }
    };
    let now = context.app.hub.now();
    let headers = answer.headers_mut();
    headers.insert(STORAGE_VERSION, HeaderValue::from_static(VERSION));
    if let Ok(id) = HeaderValue::from_str(&super::answer::tracking(now).to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    if let Some(id) = context.headers.get(CLIENT_REQUEST_ID).filter(|id| id.len() <= 1024) {
        headers.insert(CLIENT_REQUEST_ID, id.clone());
    }
    if incoming.is_some() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

fn created(stored: Option<&FileInfo>) -> Answer {
    let mut answer = super::answer::empty(StatusCode::CREATED);
    let headers = answer.headers_mut();
    headers.insert("x-ms-request-server-encrypted", HeaderValue::from_static("false"));
    let Some(info) = stored else { return answer };
    for (name, text) in
        [(header::ETAG, format!("\"{}\"", info.etag)), (header::LAST_MODIFIED, http_date(info.modified))]
    {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    }
    answer
}

fn refused(refusal: &Refusal) -> Answer {
    let status = StatusCode::from_u16(refusal.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = write_error(refusal.code, &refusal.text);
    let mut answer = super::answer::content(status, HeaderValue::from_static("application/xml"), body);
    if let Ok(code) = HeaderValue::from_str(&refusal.code.name()) {
        answer.headers_mut().insert(STORAGE_ERROR, code);
    }
    answer
}

/// What a finished file became; nothing for a block.
async fn store(
    context: &Context<'_>,
    peer: &Peer,
    blob: &str,
    incoming: &mut Option<Incoming>,
) -> Result<Option<FileInfo>, Refusal> {
    let hub = &context.app.hub;
    let denied = |text| Refusal::new(StorageCode::AuthenticationFailed, text);
    let key = FileKey::parse(blob)
        .map_err(|error| Refusal::new(StorageCode::InvalidResourceName, error.to_string()))?;
    let grant = read_grant(context.query).map_err(denied)?;
    let operation = read_operation(context.query, context.headers)?;
    let replace = read_condition(context.headers)?;
    let content_type = text(context.headers, "x-ms-blob-content-type").or(match operation {
        Operation::Whole => text(context.headers, "content-type"),
        _ => None,
    });
    let store_as = StoreAs { content_type: content_type.filter(|text| text.len() <= 256), replace };
    let patience = context.app.config.limits.http_body_timeout;
    if let Operation::List = operation {
        // Who holds no genuine signature is not read.
        hub.check_upload(&key, &grant)?;
        peer.signed_in();
        let body = match incoming.take() {
            None => Bytes::new(),
            Some(body) => super::body::read(body, BLOCK_LIST_BYTES, patience).await?,
        };
        let list = read_block_list(&body, FILE_BLOCKS)
            .map_err(|text| Refusal::new(StorageCode::InvalidXmlDocument, text))?;
        return Ok(Some(hub.commit_blocks(&key, &grant, list, store_as).await?));
    }
    let busy = || Refusal::new(StorageCode::ServerBusy, "as many files are being received as may; try again");
    let mut file = timeout(patience, hub.receive_file(&key, &grant)).await.map_err(|_| busy())??;
    peer.signed_in();
    let left = grant.expires.unix_secs().saturating_sub(hub.now().unix_secs());
    let end = Instant::now() + Duration::from_secs(u64::try_from(left).unwrap_or(0));
    let limit = hub.file_options().file_bytes;
    if incoming.as_ref().is_some_and(|body| body.size_hint().lower() > limit) {
        return Err(FileError::TooLarge(limit).into());
    }
    if let Some(body) = incoming {
        receive(body, &mut file, patience, end).await?;
    }
    *incoming = None;
    match operation {
        Operation::Block(id) => file.keep_block(&id).await.map(|()| None),
        _ => file.keep_file(store_as, hub.now()).await.map(Some),
    }
    .map_err(Refusal::from)
}

fn read_grant(query: Query<'_>) -> Result<UploadGrant, &'static str> {
    let sas = Sas::from_query(query)?;
    let upload = ContentId::parse(&sas.identifier).ok_or("the identifier (si) is not one of this hub's")?;
    Ok(UploadGrant { upload, expires: sas.expires, signature: sas.signature })
}

fn read_operation(query: Query<'_>, headers: &HeaderMap) -> Result<Operation, Refusal> {
    match query.value("comp").as_deref() {
        None => match text(headers, "x-ms-blob-type") {
            Some("BlockBlob") => Ok(Operation::Whole),
            Some(_) => Err(Refusal::new(StorageCode::InvalidHeaderValue, "x-ms-blob-type must be BlockBlob")),
            None => Err(Refusal::new(StorageCode::MissingRequiredHeader, "x-ms-blob-type is missing")),
        },
        Some("block") => {
            let id = query.value("blockid").and_then(|id| read_block_id(&id));
            let wrong =
                || Refusal::new(StorageCode::InvalidBlockId, "blockid is not the base64 of 1 to 64 bytes");
            id.map(Operation::Block).ok_or_else(wrong)
        }
        Some("blocklist") => Ok(Operation::List),
        Some(_) => {
            let text = "comp must be block or blocklist, or not be there";
            Err(Refusal::new(StorageCode::InvalidQueryParameterValue, text))
        }
    }
}

/// Clients that do not want to replace a file say so with `If-None-Match: *`; no other condition is sent by them.
fn read_condition(headers: &HeaderMap) -> Result<Replace, Refusal> {
    let unsupported = |text| Err(Refusal::new(StorageCode::UnsupportedHeader, text));
    if headers.contains_key(header::IF_MATCH) {
        return unsupported("If-Match is not supported for uploads");
    }
    match text(headers, "if-none-match") {
        None => Ok(Replace::Always),
        Some("*") => Ok(Replace::Never),
        Some(_) => unsupported("If-None-Match must be * or not be there"),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Hands a body on as it comes, as long as it comes fast enough and before `end`.
async fn receive<B>(
    body: &mut B,
    file: &mut IncomingFile,
    patience: Duration,
    end: Instant,
) -> Result<(), Refusal>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let start = Instant::now();
    let mut received = 0;
    loop {
        let slowest = start + patience + Duration::from_secs(received / SLOWEST);
        let frame = timeout_at(slowest.min(end), body.frame()).await;
        let Some(frame) = frame.map_err(|_| BodyError::TooSlow)? else { return Ok(()) };
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        received += data.len() as u64;
        file.write(&data).await?;
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Refusal {
        match error {
            BodyError::TooLarge(limit) => {
                let text = format!("the body is larger than {limit} bytes");
                Refusal::new(StorageCode::RequestBodyTooLarge, text)
            }
            BodyError::TooSlow => Refusal::new(
                StorageCode::OperationTimedOut,
                "the body came too slowly, or the upload is over",
            ),
            BodyError::Broken => Refusal::new(StorageCode::InvalidHeaderValue, "the body is broken off"),
        }
    }
}

impl From<FileError> for Refusal {
    fn from(error: FileError) -> Refusal {
        let code = match &error {
            FileError::Denied(_) | FileError::UnknownUpload | FileError::ExpiredUpload => {
                StorageCode::AuthenticationFailed
            }
            FileError::Name(_) => StorageCode::InvalidResourceName,
            FileError::TooLarge(_) => StorageCode::RequestBodyTooLarge,
            FileError::TooManyBlocks => StorageCode::BlockCountExceedsLimit,
            FileError::MissingBlock(_) => StorageCode::InvalidBlockList,
            FileError::Exists(_) => StorageCode::BlobAlreadyExists,
            FileError::NoRoom(_) => StorageCode::InsufficientStorage,
            FileError::HubBusy | FileError::TooManyUploads | FileError::Store(_) => StorageCode::ServerBusy,
            FileError::Disk | FileError::NothingStored | FileError::NotFound(_) => StorageCode::InternalError,
        };
        let text = match error {
            // What only the operator may know stays in the log.
            FileError::Store(_) => "the hub's store cannot do this now".to_owned(),
            error => error.to_string(),
        };
        Refusal::new(code, text)
    }
}
