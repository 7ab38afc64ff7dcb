//! The handler of queries (query §1): take the request apart, ask the hub, write down the rows.
//!
//! Must not know the query language.
//!
//! Invariant: a page's rows are written once, straight into the buffer that goes out.
//! Invariant: when the caller leaves, the query ends with the request that is dropped.

use super::answer::{ok, Answer, Failure};
use super::registry::connection_state;
use super::service::Context;
use http::{HeaderName, HeaderValue};
use ostler_hub::query::{QueryRequest, Rows};
use ostler_wire::rest::error::ErrorCode;
use ostler_wire::rest::identity::write_list;
use ostler_wire::rest::page::{
    read_continuation, read_max_items, ItemType, CONTINUATION_HEADER, ITEM_TYPE_HEADER, MAX_ITEM_COUNT_HEADER,
};
use ostler_wire::rest::{job, twin, twin_query};

/// Most rows fit without growing the buffer often.
const TWIN_BYTES: usize = 3072;
const DEVICE_JOB_BYTES: usize = 512;
const RAW_BYTES: usize = 128;

pub(super) async fn query(context: &Context<'_>, body: &[u8]) -> Result<Answer, Failure> {
    let text = twin_query::read_query(body)?;
    let request = QueryRequest {
        text: &text,
        dialect: context.dialect(),
        page_size: read_max_items(context.header(MAX_ITEM_COUNT_HEADER)?)?,
        continuation: read_continuation(context.header(CONTINUATION_HEADER)?),
    };
    let page = context.app.hub.query(&request).await?;
    let (item_type, mut answer) = match &page.rows {
        Rows::Twins(views) => (
            ItemType::Twin,
            ok(views.len() * TWIN_BYTES + 2, |out| {
                write_list(views, out, |view, out| {
                    twin::write_twin(&view.record, connection_state(view), view.messages, out)
                })
            }),
        ),
        Rows::DeviceJobs(jobs) => (
            ItemType::DeviceJob,
            ok(jobs.len() * DEVICE_JOB_BYTES + 2, |out| write_list(jobs, out, job::write_device_job)),
        ),
        Rows::Raw(objects) => (
            ItemType::Raw,
            ok(objects.len() * RAW_BYTES + 2, |out| {
                write_list(objects, out, |object, out| object.write_to(out))
            }),
        ),
    };
    let headers = answer.headers_mut();
    headers.insert(HeaderName::from_static(ITEM_TYPE_HEADER), HeaderValue::from_static(item_type.name()));
    if let Some(next) = page.next {
        let next = HeaderValue::try_from(next)
            .map_err(|_| Failure::new(ErrorCode::ServerError, "the next page cannot be named"))?;
        headers.insert(HeaderName::from_static(CONTINUATION_HEADER), next);
    }
    Ok(answer)
}
