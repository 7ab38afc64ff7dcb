//! Handlers of the registry (service §5–7). Each has three moves: take the request apart, call the hub, write down what
//! comes back.

use super::answer::{empty, json, ok, with_etag, Answer, Failure};
use super::service::Context;
use crate::config::Compat;
use http::{HeaderName, HeaderValue, StatusCode};
use ostler_core::id::{DeviceId, EntityId};
use ostler_core::twin::TwinContent;
use ostler_hub::registry::{Action, Operation};
use ostler_hub::View;
use ostler_wire::rest::bulk::{read_entries, write_result, BulkEntry, BulkError, ImportMode};
use ostler_wire::rest::error::{ErrorCode, BULK_ERROR_CODE_HEADER, ERROR_CODE_HEADER};
use ostler_wire::rest::etag::{self, IfMatch};
use ostler_wire::rest::identity::{self, ConnectionState};

/// Most identities fit without growing the buffer.
const IDENTITY_BYTES: usize = 1024;
/// The most devices that one list names, and how many it names unasked (service §5.1).
const LIST_MAX: usize = 1000;

/// What a route's condition means for whatever exists already.
pub(super) fn condition(if_match: IfMatch<'_>) -> ostler_hub::IfMatch {
    match if_match {
        IfMatch::Absent | IfMatch::Any => ostler_hub::IfMatch::Any,
        IfMatch::Etag(etag) => ostler_hub::IfMatch::Etag(etag.to_owned()),
    }
}

pub(super) fn connection_state(view: &View) -> ConnectionState {
    if view.connected {
        ConnectionState::Connected
    } else {
        ConnectionState::Disconnected
    }
}

fn identity_answer(view: &View) -> Answer {
    let answer = ok(IDENTITY_BYTES, |out| write_view(view, out));
    with_etag(answer, &view.record.identity.etag_text())
}

fn write_view(view: &View, out: &mut Vec<u8>) {
    identity::write_identity(&view.record, connection_state(view), view.messages, out);
}

fn list_answer(views: &[View]) -> Answer {
    ok(views.len() * IDENTITY_BYTES + 2, |out| identity::write_list(views, out, write_view))
}

/// The service lists the first devices and no others; `after`, an extension, goes on behind an id.
pub(super) async fn list_devices(context: &Context<'_>) -> Result<Answer, Failure> {
    let top = match context.query.value("top") {
        None => LIST_MAX,
        Some(text) => text.parse().ok().filter(|top| *top > 0).ok_or_else(|| {
            Failure::new(ErrorCode::ArgumentInvalid, format!("top is '{text}', allowed are 1 to {LIST_MAX}"))
        })?,
    };
    let after = match context.query.value("after") {
        // The service knows no such parameter, and ignores what it does not know (service §1.3).
        Some(text) if context.app.config.compat == Compat::Extended => Some(
            DeviceId::new(&text)
                .map_err(|error| Failure::new(ErrorCode::ArgumentInvalid, format!("after: {error}")))?,
        ),
        _ => None,
    };
    Ok(list_answer(&context.app.hub.list_devices(after.as_ref(), top.min(LIST_MAX)).await?))
}

pub(super) async fn list_modules(context: &Context<'_>, id: &DeviceId) -> Result<Answer, Failure> {
    Ok(list_answer(&context.app.hub.list_modules(id).await?))
}

pub(super) async fn get(context: &Context<'_>, id: &EntityId) -> Result<Answer, Failure> {
    Ok(identity_answer(&context.app.hub.identity(id).await?))
}

/// Without a condition a PUT creates, with one it updates (service §4).
pub(super) async fn put(context: &Context<'_>, id: &EntityId, body: &[u8]) -> Result<Answer, Failure> {
    let identity = identity::read_identity(id, body)?;
    let action = match context.if_match() {
        IfMatch::Absent => Action::Create,
        if_match => Action::Update(condition(if_match)),
    };
    let operation = Operation { id: id.clone(), action, identity, twin: TwinContent::default() };
    let made = context.app.hub.apply(operation).await?;
    let view = made.ok_or_else(|| Failure::new(ErrorCode::ServerError, "the identity is gone again"))?;
    Ok(identity_answer(&view))
}

pub(super) async fn delete(context: &Context<'_>, id: &EntityId) -> Result<Answer, Failure> {
    // The system modules of an edge gateway live and die with it (service §5.1).
    if matches!(id.module(), Some("$edgeAgent" | "$edgeHub")) {
        let text = "the system modules of an edge device cannot be deleted";
        return Err(Failure::new(ErrorCode::SystemModuleModifyUnauthorizedAccess, text));
    }
    let action = Action::Delete(condition(context.if_match()));
    let operation =
        Operation { id: id.clone(), action, identity: Default::default(), twin: TwinContent::default() };
    context.app.hub.apply(operation).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) fn device_statistics(context: &Context<'_>) -> Answer {
    let counts = context.app.hub.counts();
    let enabled = counts.devices.saturating_sub(counts.disabled);
    ok(128, |out| identity::write_device_statistics(enabled, counts.disabled, out))
}

pub(super) fn service_statistics(context: &Context<'_>) -> Answer {
    let connected = context.app.hub.connected_count() as u64;
    ok(64, |out| identity::write_service_statistics(connected, out))
}

/// Carries out what can be; the rest is told entry by entry.
pub(super) async fn bulk(context: &Context<'_>, body: &[u8]) -> Result<Answer, Failure> {
    let mut errors = Vec::new();
    let mut modes = Vec::new();
    let mut operations = Vec::new();
    for entry in read_entries(body)? {
        match entry.and_then(bulk_operation) {
            Ok((mode, operation)) => {
                modes.push((operation.id.clone(), mode));
                operations.push(operation);
            }
            Err(error) => errors.push(error),
        }
    }
    let outcomes = context.app.hub.apply_all(operations).await;
    for ((id, mode), outcome) in modes.into_iter().zip(outcomes) {
        if let Err(error) = outcome {
            let failure = Failure::from(error);
            errors.push(bulk_error(&id, mode, failure.code, failure.text.into_owned()));
        }
    }
    Ok(bulk_answer(&errors))
}

fn bulk_answer(errors: &[BulkError]) -> Answer {
    let mut body = Vec::with_capacity(64 + errors.len() * 192);
    write_result(errors, &mut body);
    if errors.is_empty() {
        return json(StatusCode::OK, body);
    }
    let mut answer = json(StatusCode::BAD_REQUEST, body);
    let name = HeaderValue::from_static(ErrorCode::BulkRegistryOperationFailure.name());
    answer.headers_mut().insert(HeaderName::from_static(ERROR_CODE_HEADER), name.clone());
    if let Ok(header) = HeaderName::from_bytes(BULK_ERROR_CODE_HEADER.as_bytes()) {
        answer.headers_mut().insert(header, name);
    }
    answer
}

fn bulk_error(id: &EntityId, mode: ImportMode, code: ErrorCode, text: String) -> BulkError {
    let (device_id, module_id) = (id.device().to_owned(), id.module().map(str::to_owned));
    BulkError { device_id, module_id, code, text, mode: Some(mode) }
}

fn bulk_operation(entry: BulkEntry) -> Result<(ImportMode, Operation), BulkError> {
    use ostler_hub::IfMatch::Any;
    let BulkEntry { id, mode, etag, twin_etag, identity, twin } = entry;
    let insist = |etag: Option<&str>, name: &str| match etag.map(etag::bare) {
        Some("*") => Ok(Any),
        Some(etag) if !etag.is_empty() => Ok(ostler_hub::IfMatch::Etag(etag.to_owned())),
        _ => Err(bulk_error(&id, mode, ErrorCode::ArgumentNull, format!("{name} is missing"))),
    };
    let action = match mode {
        ImportMode::CreateOrUpdate => Action::Upsert(Any),
        ImportMode::Create => Action::Create,
        ImportMode::Update => Action::Update(Any),
        ImportMode::UpdateIfMatchEtag => Action::Update(insist(etag.as_deref(), "eTag")?),
        ImportMode::CreateOrUpdateIfMatchEtag => match etag.as_deref().map(etag::bare) {
            // Without an etag nothing that exists can match; what does not exist is made.
            None | Some("") => Action::Create,
            etag => Action::Upsert(insist(etag, "eTag")?),
        },
        ImportMode::Delete => Action::Delete(Any),
        ImportMode::DeleteIfMatchEtag => Action::Delete(insist(etag.as_deref(), "eTag")?),
        ImportMode::UpdateTwin => Action::PatchTwin(Any),
        ImportMode::UpdateTwinIfMatchEtag => Action::PatchTwin(insist(twin_etag.as_deref(), "twinETag")?),
    };
    Ok((mode, Operation { id, action, identity, twin }))
}
