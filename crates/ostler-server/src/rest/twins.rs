//! Handlers of twins and direct methods (service §8, §9). Each has three moves: take the request apart, call the hub,
//! write down what comes back.

use super::answer::{ok, with_etag, Answer, Failure};
use super::registry::{condition, connection_state};
use super::service::Context;
use ostler_core::id::EntityId;
use ostler_core::identity::twin_etag_text;
use ostler_hub::View;
use ostler_wire::rest::{method, twin};

/// Most twins fit without growing the buffer.
const TWIN_BYTES: usize = 4096;

pub(super) async fn get(context: &Context<'_>, id: &EntityId) -> Result<Answer, Failure> {
    Ok(twin_answer(&context.app.hub.twin(id).await?))
}

pub(super) async fn patch(context: &Context<'_>, id: &EntityId, body: &[u8]) -> Result<Answer, Failure> {
    let patch = twin::read_patch(body)?;
    let view = context.app.hub.patch_twin(id, &condition(context.if_match()), &patch).await?;
    Ok(twin_answer(&view))
}

pub(super) async fn replace(context: &Context<'_>, id: &EntityId, body: &[u8]) -> Result<Answer, Failure> {
    let content = twin::read_content(body)?;
    let view = context.app.hub.replace_twin(id, &condition(context.if_match()), &content).await?;
    Ok(twin_answer(&view))
}

fn twin_answer(view: &View) -> Answer {
    let answer =
        ok(TWIN_BYTES, |out| twin::write_twin(&view.record, connection_state(view), view.messages, out));
    with_etag(answer, &twin_etag_text(view.record.twin.etag))
}

pub(super) async fn invoke(context: &Context<'_>, id: &EntityId, body: &[u8]) -> Result<Answer, Failure> {
    let call = method::read_call(body)?;
    let answer = context.app.hub.invoke(id, call).await?;
    Ok(ok(answer.payload.len() + 32, |out| method::write_answer(&answer, out)))
}
