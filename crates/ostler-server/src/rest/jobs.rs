//! Handlers of jobs (service §10), Azure's and Ostler's own. Each has three moves: take the request apart, call the hub,
//! write down what comes back.
//!
//! Must not know how a job is run.
//!
//! Invariant: a token of a list goes on with the same list only. It holds nothing but a place in it, which whoever may
//! read the list may name.
//! Invariant: a reader of progress holds no more than one line; what it is too slow for, it does not see.

use super::answer::{ndjson, ok, Answer, Failure};
use super::events::KEEP_ALIVE;
use super::service::Context;
use base64::prelude::{Engine, BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::{stream, Stream};
use http::{HeaderName, HeaderValue};
use ostler_core::job::{JobId, JobStatus, JobView};
use ostler_wire::rest::error::ErrorCode;
use ostler_wire::rest::job::{self, Audience, JobFilter};
use ostler_wire::rest::page::{
    read_continuation, read_max_items, ItemType, CONTINUATION_HEADER, ITEM_TYPE_HEADER, MAX_ITEMS,
    MAX_ITEM_COUNT_HEADER,
};
use std::borrow::Cow;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Most jobs fit without growing the buffer.
const JOB_BYTES: usize = 1024;

pub(super) async fn put(
    context: &Context<'_>,
    id: &str,
    body: &[u8],
    audience: Audience,
) -> Result<Answer, Failure> {
    let spec = job::read_job(&job::read_id(id)?, body, audience)?;
    Ok(answer(&context.app.hub.create_job(spec).await?, audience))
}

pub(super) async fn get(context: &Context<'_>, id: &str, audience: Audience) -> Result<Answer, Failure> {
    Ok(answer(&context.app.hub.job(&job::read_id(id)?).await?, audience))
}

pub(super) async fn cancel(context: &Context<'_>, id: &str, audience: Audience) -> Result<Answer, Failure> {
    Ok(answer(&context.app.hub.cancel_job(&job::read_id(id)?).await?, audience))
}

pub(super) async fn pause(context: &Context<'_>, id: &str) -> Result<Answer, Failure> {
    Ok(answer(&context.app.hub.pause_job(&job::read_id(id)?).await?, Audience::Ostler))
}

pub(super) async fn resume(context: &Context<'_>, id: &str) -> Result<Answer, Failure> {
    Ok(answer(&context.app.hub.resume_job(&job::read_id(id)?).await?, Audience::Ostler))
}

pub(super) async fn retry(context: &Context<'_>, id: &str, body: &[u8]) -> Result<Answer, Failure> {
    let (id, retry) = (job::read_id(id)?, job::read_retry(body)?);
    Ok(answer(&context.app.hub.retry_job(&id, retry).await?, Audience::Ostler))
}

pub(super) async fn dry_run(context: &Context<'_>, body: &[u8]) -> Result<Answer, Failure> {
    let run = context.app.hub.dry_run(&job::read_dry_run(body)?).await?;
    Ok(ok(JOB_BYTES, |out| job::write_dry_run(&run, out)))
}

fn answer(view: &JobView, audience: Audience) -> Answer {
    ok(JOB_BYTES, |out| job::write_job(view, audience, out))
}

pub(super) async fn list(context: &Context<'_>, audience: Audience) -> Result<Answer, Failure> {
    let filter = job::read_filter(context.query)?;
    let as_object = audience == Audience::Azure && job::wants_list_object(context.header("user-agent")?);
    let asked = context.header(MAX_ITEM_COUNT_HEADER)?.map(Cow::from).or(context.query.value("pageSize"));
    let limit = match asked.filter(|text| !text.is_empty()) {
        // That client cannot ask for a second page.
        None if as_object => MAX_ITEMS,
        asked => read_max_items(asked.as_deref())?,
    };
    let token = context.header(CONTINUATION_HEADER)?.map(Cow::from);
    let token = token.or(context.query.value("continuationToken"));
    let after = read_continuation(token.as_deref()).map(|token| read_token(filter, token)).transpose()?;
    let page = context.app.hub.jobs(&hub_filter(filter, audience), after.as_ref(), limit).await?;
    let next = page.next.map(|last| write_token(filter, &last));
    let mut answer = ok(page.jobs.len() * JOB_BYTES + 64, |out| match as_object {
        true => job::write_jobs_object(&page.jobs, next.as_deref(), out),
        false => job::write_jobs(&page.jobs, audience, out),
    });
    let headers = answer.headers_mut();
    let item_type = HeaderValue::from_static(ItemType::JobResponse.name());
    headers.insert(HeaderName::from_static(ITEM_TYPE_HEADER), item_type);
    if let Some(next) = next.and_then(|next| HeaderValue::try_from(next).ok()) {
        headers.insert(HeaderName::from_static(CONTINUATION_HEADER), next);
    }
    Ok(answer)
}

/// Azure's clients see a held job as running, so they find it there too.
fn hub_filter(filter: JobFilter, audience: Audience) -> ostler_hub::jobs::JobFilter {
    let statuses = match (filter.status, audience) {
        (None, _) => Vec::new(),
        (Some(JobStatus::Running), Audience::Azure) => vec![JobStatus::Running, JobStatus::Paused],
        (Some(JobStatus::Paused), Audience::Azure) => vec![JobStatus::Unknown],
        (Some(status), _) => vec![status],
    };
    ostler_hub::jobs::JobFilter { kind: filter.kind, statuses }
}

fn list_name(filter: JobFilter) -> String {
    let (kind, status) =
        (filter.kind.map_or("", |kind| kind.name()), filter.status.map_or("", |at| at.name()));
    format!("{kind} {status} ")
}

fn write_token(filter: JobFilter, last: &JobId) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{}{last}", list_name(filter)))
}

fn read_token(filter: JobFilter, token: &str) -> Result<JobId, Failure> {
    let refused =
        || Failure::new(ErrorCode::ArgumentInvalid, "the continuation token is not one of this list of jobs");
    let text = BASE64_URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let text = text.ok_or_else(refused)?;
    let id = text.strip_prefix(list_name(filter).as_str()).ok_or_else(refused)?;
    JobId::new(id).map_err(|_| refused())
}

pub(super) async fn progress(context: &Context<'_>, id: &str) -> Result<Answer, Failure> {
    let views = context.app.hub.job_progress(&job::read_id(id)?).await?;
    Ok(ndjson(lines(views, context.app.stopping.clone())))
}

/// A line for each state that the reader is there for, the final one last.
fn lines(views: watch::Receiver<JobView>, stop: CancellationToken) -> impl Stream<Item = Bytes> + Send {
    let reader = Reader { views, stop, next: Next::Now };
    stream::unfold(reader, |mut reader| async move { Some((reader.next_line().await?, reader)) })
}

struct Reader {
    views: watch::Receiver<JobView>,
    stop: CancellationToken,
    next: Next,
}

/// What the reader is told next.
#[derive(PartialEq)]
enum Next {
    Now,
    Change,
    Nothing,
}

impl Reader {
    async fn next_line(&mut self) -> Option<Bytes> {
        match self.next {
            Next::Nothing => return None,
            Next::Now => {}
            Next::Change => {
                let changed = tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return None,
                    changed = timeout(KEEP_ALIVE, self.views.changed()) => changed,
                };
                match changed {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return None,
                    Err(_) => return Some(Bytes::from_static(b"\n")),
                }
            }
        }
        let mut line = Vec::with_capacity(JOB_BYTES);
        {
            let view = self.views.borrow_and_update();
            self.next = if view.status.is_terminal() { Next::Nothing } else { Next::Change };
            job::write_job(&view, Audience::Ostler, &mut line);
        }
        // A payload is kept as it was sent; the line breaks in it can only be white space.
        line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
        line.push(b'\n');
        Some(line.into())
    }
}
