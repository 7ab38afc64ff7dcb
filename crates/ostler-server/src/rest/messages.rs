//! Handlers of cloud-to-device messages and their feedback (service §12). Each has three moves: take the request apart,
//! call the hub, write down what comes back.

use super::answer::{empty, ok, with_etag, Answer, Failure};
use super::service::Context;
use http::StatusCode;
use ostler_core::id::{DeviceId, EntityId};
use ostler_hub::messages::{FeedbackLock, FeedbackRecord};
use ostler_hub::Error;
use ostler_wire::rest::identity::write_purge;
use ostler_wire::rest::message::{read_message, write_accepted, write_feedback, Told};

/// Most outcomes fit without growing the buffer.
const FEEDBACK_BYTES: usize = 256;

/// Durable when it is answered, not delivered.
pub(super) async fn send(context: &Context<'_>, id: &DeviceId, body: &[u8]) -> Result<Answer, Failure> {
    let headers = context.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let message = read_message(headers, body)?;
    let accepted = context.app.hub.send_message(id, message).await?;
    let message_id = accepted.message_id.as_deref();
    Ok(ok(256, |out| {
        write_accepted(id.as_str(), message_id, accepted.sequence, accepted.enqueued, accepted.expires, out);
    }))
}

pub(super) async fn purge(context: &Context<'_>, id: &EntityId) -> Result<Answer, Failure> {
    let count = context.app.hub.purge_messages(id).await?;
    Ok(ok(64, |out| write_purge(id, count, out)))
}

pub(super) fn receive_feedback(context: &Context<'_>) -> Result<Answer, Failure> {
    let Some(batch) = context.app.hub.take_feedback()? else { return Ok(empty(StatusCode::NO_CONTENT)) };
    let told: Vec<Told<'_>> = batch.records.iter().map(told).collect();
    let answer = ok(FEEDBACK_BYTES * told.len(), |out| write_feedback(&told, out));
    Ok(with_etag(answer, &format!("{:032x}", batch.lock.0)))
}

fn told(record: &FeedbackRecord) -> Told<'_> {
    Told {
        message_id: &record.message_id,
        device: &record.device,
        generation_id: record.generation_id,
        at: record.at,
        outcome: record.outcome,
    }
}

pub(super) async fn complete_feedback(context: &Context<'_>, lock: &str) -> Result<Answer, Failure> {
    context.app.hub.complete_feedback(parse_lock(lock)?).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) fn abandon_feedback(context: &Context<'_>, lock: &str) -> Result<Answer, Failure> {
    context.app.hub.abandon_feedback(parse_lock(lock)?)?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// What no batch was ever locked with is not locked; one client repeats the quotes of the header.
fn parse_lock(text: &str) -> Result<FeedbackLock, Failure> {
    let text = text.trim_matches('"');
    let lock = u128::from_str_radix(text, 16).map_err(|_| Error::LockLost)?;
    Ok(FeedbackLock(lock))
}
