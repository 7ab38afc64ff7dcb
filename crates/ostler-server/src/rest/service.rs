//! One request, from its head to its answer.
//!
//! Must not know what a call does; it finds the call, checks who asks, and runs the handler.
//!
//! Invariant: every request gets exactly one answer, counted and, if the fault is ours, logged once.
//! Invariant: nothing of a call runs before its caller is known to have the right to it.

use super::answer::{empty, tracking, Answer, Failure};
use super::authorise::Grants;
use super::body::{self, BodyError};
use super::connection::Pulse;
use super::websocket::{Handshake, Refusal};
use super::{
    blob, configurations, device, device_messages, extension, files, jobs, messages, pages, query, registry,
    twins,
};
use crate::app::App;
use crate::config::Compat;
use crate::peer::Peer;
use bytes::Bytes;
use http::request::Parts;
use http::{header, HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;
use ostler_core::id::EntityId;
use ostler_core::query::Dialect;
use ostler_wire::rest::error::{ErrorCode, ErrorForm};
use ostler_wire::rest::etag::IfMatch;
use ostler_wire::rest::query::{check_api_version, Query};
use ostler_wire::rest::route::{Call, Method, Route, RouteError, Surface};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Instant;

const METHOD_OVERRIDE: HeaderName = HeaderName::from_static("x-http-method-override");

/// Bodies that carry an id, a path or a key.
const SMALL_BODY: usize = 64 * 1024;
/// A method's payload and what surrounds it.
const METHOD_BODY: usize = ostler_core::limits::METHOD_PAYLOAD_BYTES + 32 * 1024;
/// A complete twin as clients send it back: three sections with metadata, which outweighs the values.
const TWIN_BODY: usize = 1 << 20;
/// A configuration: content for all the modules of an edge device, and queries.
const CONFIGURATION_BODY: usize = 1 << 20;
/// Telemetry: the largest message, or a batch of as much in base64 with its names.
const EVENTS_BODY: usize = 2 * ostler_core::limits::TELEMETRY_BYTES;
/// A hundred entries with twins.
const BULK_BODY: usize = 8 << 20;

/// What the requests of one connection share.
pub(super) struct Door {
    app: Arc<App>,
    peer: Peer,
    pulse: Arc<Pulse>,
    grants: Grants,
    upgrade: Mutex<Option<OnUpgrade>>,
}

/// What a handler may look at besides its call.
pub(super) struct Context<'a> {
    pub(super) app: &'a App,
    pub(super) query: Query<'a>,
    pub(super) headers: &'a HeaderMap,
}

impl Context<'_> {
    /// The request's condition.
    pub(super) fn if_match(&self) -> IfMatch<'_> {
        IfMatch::parse(self.headers.get(header::IF_MATCH).and_then(|value| value.to_str().ok()))
    }

    /// The text of a header, if it is there.
    pub(super) fn header(&self, name: &'static str) -> Result<Option<&str>, Failure> {
        let text = self.headers.get(name).map(HeaderValue::to_str).transpose();
        text.map_err(|_| {
            Failure::new(ErrorCode::ArgumentInvalid, format!("{name} has characters no header may have"))
        })
    }

    /// The query language that this hub speaks.
    pub(super) fn dialect(&self) -> Dialect {
        self.app.config.compat.dialect()
    }
}

impl Door {
    pub(super) fn new(app: Arc<App>, peer: Peer, pulse: Arc<Pulse>) -> Door {
        Door { app, peer, pulse, grants: Grants::default(), upgrade: Mutex::new(None) }
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The upgrade that was agreed to, if one was.
    pub(super) fn take_upgrade(&self) -> Option<OnUpgrade> {
        self.upgrade.lock().take()
    }

    /// Answers a request.
    pub(super) async fn respond(&self, request: Request<Incoming>) -> Answer {
        let started = Instant::now();
        let busy = self.pulse.begin();
        let in_flight = self.app.metrics.http.request();
        let (place, form, outcome) = match find(&request) {
            Ok(route) => {
                let (place, form) = (Some(route.index), route.endpoint.error_form());
                (place, form, self.run(route, request).await)
            }
            Err(NoCall::Answer(answer)) => (None, ErrorForm::A, Ok(*answer)),
            Err(NoCall::Failure(failure, form)) => (None, form, Err(failure)),
        };
        let mut answer = outcome.unwrap_or_else(|failure| self.fail(failure, form));
        drop(in_flight);
        self.app.metrics.http.answered(place, answer.status(), started.elapsed());
        answer.body_mut().hold(busy);
        answer
    }

    fn fail(&self, failure: Failure, form: ErrorForm) -> Answer {
        let tracking = tracking(self.app.hub.now());
        if failure.closes {
            self.pulse.linger_at_end();
        }
        let code = failure.code.name();
        match &failure.detail {
            Some(detail) => tracing::warn!(code, detail, %tracking, peer = %self.peer, "request failed"),
            None => {
                tracing::debug!(code, text = &*failure.text, %tracking, peer = %self.peer, "request refused")
            }
        }
        failure.into_answer(form, tracking)
    }

    async fn run(&self, route: Route, request: Request<Incoming>) -> Result<Answer, Failure> {
        let (mut head, incoming) = request.into_parts();
        let mut incoming = (!incoming.is_end_stream()).then_some(incoming);
        let outcome = self.call(route, &mut head, &mut incoming).await;
        if incoming.is_some() {
            self.pulse.linger_at_end();
        }
        outcome
    }

    /// Checks everything that does not depend on the call, then makes it. What is left in `incoming` was not read.
    async fn call(
        &self,
        route: Route,
        head: &mut Parts,
        incoming: &mut Option<Incoming>,
    ) -> Result<Answer, Failure> {
        let Route { endpoint, call, .. } = route;
        if endpoint.surface == Surface::Extension && self.app.config.compat == Compat::Strict {
            return Err(unknown_path());
        }
        self.grants.check(&self.app, &self.peer, head, endpoint.access)?;
        if let Some(id) = speaker(&call) {
            device::sign_in(&self.app, &self.peer, head, &id).await?;
        }
        if endpoint.surface == Surface::Azure {
            check_api_version(Query::new(head.uri.query()))
                .map_err(|error| Failure::new(ErrorCode::InvalidProtocolVersion, error.to_string()))?;
        }
        if matches!(call, Call::WebSocket) {
            return self.upgrade(head);
        }
        if let Call::PutBlob(blob) = &call {
            let query = Query::new(head.uri.query());
            let context = Context { app: &self.app, query, headers: &head.headers };
            return Ok(blob::put(&context, &self.peer, blob, incoming).await);
        }
        let body = match body_limit(&call).and_then(|limit| Some((limit, incoming.take()?))) {
            None => Bytes::new(),
            Some((limit, incoming)) => self.read(incoming, limit).await?,
        };
        let context = Context { app: &self.app, query: Query::new(head.uri.query()), headers: &head.headers };
        dispatch(&context, call, &body).await
    }

    async fn read(&self, incoming: Incoming, limit: usize) -> Result<Bytes, Failure> {
        let patience = self.app.config.limits.http_body_timeout;
        body::read(incoming, limit, patience).await.map_err(|error| {
            let failure = match error {
                BodyError::TooLarge(limit) => {
                    let text = format!("the body is larger than {limit} bytes, the limit of this route");
                    Failure::new(ErrorCode::MessageTooLarge, text)
                }
                BodyError::TooSlow => {
                    Failure::new(ErrorCode::RequestTimedOut, "the body did not come in time")
                        .with_status(StatusCode::REQUEST_TIMEOUT)
                }
                BodyError::Broken => {
                    Failure::new(ErrorCode::GenericBadRequest, "the body's encoding is broken")
                }
            };
            failure.closing()
        })
    }

    fn upgrade(&self, head: &mut Parts) -> Result<Answer, Failure> {
        let handshake = Handshake::check(&head.headers).map_err(|refusal| {
            let text = refusal.to_string();
            match refusal {
                Refusal::Amqp => Failure::new(ErrorCode::FeatureNotSupported, text)
                    .with_status(StatusCode::NOT_IMPLEMENTED),
                _ => Failure::new(ErrorCode::GenericBadRequest, text)
                    .with_status(StatusCode::UPGRADE_REQUIRED)
                    .with_header(header::UPGRADE, HeaderValue::from_static("websocket")),
            }
        })?;
        let upgrade = head.extensions.remove::<OnUpgrade>();
        let upgrade = upgrade.ok_or_else(|| {
            Failure::new(ErrorCode::GenericBadRequest, "a WebSocket connection needs HTTP/1.1")
        })?;
        *self.upgrade.lock() = Some(upgrade);
        let mut answer = empty(StatusCode::SWITCHING_PROTOCOLS);
        let headers = answer.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, handshake.accept);
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, handshake.subprotocol);
        Ok(answer)
    }
}

/// A request that is answered without a call.
enum NoCall {
    Answer(Box<Answer>),
    Failure(Failure, ErrorForm),
}

fn find(request: &Request<Incoming>) -> Result<Route, NoCall> {
    let method = Method::parse(request.method().as_str());
    let headers = request.headers();
    if request.version() == http::Version::HTTP_11 && headers.get_all(header::HOST).iter().count() != 1 {
        let failure = Failure::new(ErrorCode::GenericBadRequest, "a request needs exactly one Host header");
        return Err(NoCall::Failure(failure.closing(), ErrorForm::A));
    }
    let path = request.uri().path();
    if method == Method::Options && path == "*" {
        return Err(NoCall::Answer(Box::new(options("GET, PUT, PATCH, POST, DELETE"))));
    }
    let method_override = headers.get(METHOD_OVERRIDE).and_then(|value| value.to_str().ok());
    Route::parse(method, path, method_override).map_err(|error| {
        let text = error.to_string();
        let failure = match error {
            RouteError::Verb { allowed } if method == Method::Options => {
                return NoCall::Answer(Box::new(options(&allowed)))
            }
            RouteError::Unknown => unknown_path(),
            RouteError::Verb { allowed } => {
                let failure = Failure::new(ErrorCode::OperationNotAllowedInCurrentState, text);
                match HeaderValue::from_str(&allowed) {
                    Ok(value) => failure.with_header(header::ALLOW, value),
                    Err(_) => failure,
                }
            }
            RouteError::Id { form, .. } => {
                return NoCall::Failure(Failure::new(ErrorCode::ArgumentInvalid, text), form);
            }
            RouteError::Encoding => Failure::new(ErrorCode::ArgumentInvalid, text),
        };
        NoCall::Failure(failure, ErrorForm::A)
    })
}

fn unknown_path() -> Failure {
    Failure::new(ErrorCode::GenericNotFound, RouteError::Unknown.to_string())
}

fn options(allowed: &str) -> Answer {
    let mut answer = empty(StatusCode::NO_CONTENT);
    if let Ok(value) = HeaderValue::from_str(allowed) {
        answer.headers_mut().insert(header::ALLOW, value);
    }
    answer
}

/// The device or module that makes a call by itself.
fn speaker(call: &Call) -> Option<EntityId> {
    match call {
        Call::StartUpload(device)
        | Call::FinishUpload(device, _)
        | Call::ReceiveMessage(device)
        | Call::CompleteMessage(device, _)
        | Call::AbandonMessage(device, _) => Some(device.into()),
        Call::SendEvent(id) => Some(id.clone()),
        _ => None,
    }
}

/// How much of a body a call takes; `None` for calls that take none, whose body is left where it is.
fn body_limit(call: &Call) -> Option<usize> {
    match call {
        Call::InvokeMethod(_) => Some(METHOD_BODY),
        Call::PatchTwin(_) | Call::ReplaceTwin(_) => Some(TWIN_BODY),
        Call::Bulk => Some(BULK_BODY),
        Call::SendEvent(_) => Some(EVENTS_BODY),
        Call::SendMessage(_) => Some(ostler_core::limits::MESSAGE_BYTES),
        Call::PutJob(..) | Call::DryRunJob => Some(TWIN_BODY),
        // One client sends an empty object along with a cancellation (service §1.3).
        Call::CancelJob(..) | Call::PauseJob(_) | Call::ResumeJob(_) | Call::RetryJob(_) => Some(SMALL_BODY),
        Call::PutIdentity(_)
        | Call::StartUpload(_)
        | Call::FinishUpload(..)
        | Call::CreatePolicy
        | Call::PutAuthority(_)
        | Call::Backup
        | Call::QueryTwins => Some(SMALL_BODY),
        Call::PutConfiguration(_) | Call::ApplyConfigurationContent(_) | Call::TestConfigurationQueries => {
            Some(CONFIGURATION_BODY)
        }
        _ => None,
    }
}

async fn dispatch(context: &Context<'_>, call: Call, body: &[u8]) -> Result<Answer, Failure> {
    match call {
        Call::InvokeMethod(id) => twins::invoke(context, &id, body).await,
        Call::GetTwin(id) => twins::get(context, &id).await,
        Call::PatchTwin(id) => twins::patch(context, &id, body).await,
        Call::ReplaceTwin(id) => twins::replace(context, &id, body).await,
        Call::QueryTwins => query::query(context, body).await,
        Call::ListDevices => registry::list_devices(context).await,
        Call::Bulk => registry::bulk(context, body).await,
        Call::GetIdentity(id) => registry::get(context, &id).await,
        Call::PutIdentity(id) => registry::put(context, &id, body).await,
        Call::DeleteIdentity(id) => registry::delete(context, &id).await,
        Call::ListModules(id) => registry::list_modules(context, &id).await,
        Call::PurgeCommands(id) => messages::purge(context, &id).await,
        Call::SendMessage(id) => messages::send(context, &id, body).await,
        Call::ReceiveFeedback => messages::receive_feedback(context),
        Call::CompleteFeedback(lock) => messages::complete_feedback(context, &lock).await,
        Call::AbandonFeedback(lock) => messages::abandon_feedback(context, &lock),
        Call::DeviceStatistics => Ok(registry::device_statistics(context)),
        Call::ServiceStatistics => Ok(registry::service_statistics(context)),
        Call::ListJobs(audience) => jobs::list(context, audience).await,
        Call::GetJob(id, audience) => jobs::get(context, &id, audience).await,
        Call::PutJob(id, audience) => jobs::put(context, &id, body, audience).await,
        Call::CancelJob(id, audience) => jobs::cancel(context, &id, audience).await,
        Call::ApplyConfigurationContent(id) => configurations::apply_content(context, &id, body).await,
        Call::TestConfigurationQueries => configurations::test_queries(context, body),
        Call::ListConfigurations => configurations::list(context).await,
        Call::GetConfiguration(id) => configurations::get(context, &id).await,
        Call::PutConfiguration(id) => configurations::put(context, &id, body).await,
        Call::DeleteConfiguration(id) => configurations::delete(context, &id).await,
        Call::StartUpload(device) => files::start(context, &device, body).await,
        Call::FinishUpload(device, id) => files::finish(context, &device, id.as_deref(), body).await,
        Call::SendEvent(id) => device_messages::send(context, &id, body),
        Call::ReceiveMessage(device) => device_messages::receive(context, &device).await,
        Call::CompleteMessage(device, lock) => {
            device_messages::complete(context, &device, lock.as_deref().unwrap_or_default()).await
        }
        Call::AbandonMessage(device, lock) => {
            device_messages::abandon(context, &device, lock.as_deref().unwrap_or_default()).await
        }
        Call::ListFiles => files::list(context).await,
        Call::GetFile(file) => files::get(context, &file).await,
        Call::DeleteFile(file) => files::delete(context, &file).await,
        Call::NotSupported(feature) => Err(not_supported(feature)),
        Call::Events => extension::events(context),
        Call::Diagnosis(id) => extension::diagnosis(context, &id).await,
        Call::DryRunJob => jobs::dry_run(context, body).await,
        Call::PauseJob(id) => jobs::pause(context, &id).await,
        Call::ResumeJob(id) => jobs::resume(context, &id).await,
        Call::RetryJob(id) => jobs::retry(context, &id, body).await,
        Call::JobProgress(id) => jobs::progress(context, &id).await,
        Call::ListPolicies => Ok(extension::list_policies(context)),
        Call::GetPolicy(name) => extension::get_policy(context, &name),
        Call::CreatePolicy => extension::create_policy(context, body).await,
        Call::DeletePolicy(name) => extension::delete_policy(context, &name).await,
        Call::RotatePolicyKey(name) => extension::rotate_policy_key(context, &name).await,
        Call::ListAuthorities => Ok(extension::list_authorities(context)),
        Call::GetAuthority(name) => extension::get_authority(context, &name),
        Call::PutAuthority(name) => extension::put_authority(context, &name, body).await,
        Call::DeleteAuthority(name) => extension::delete_authority(context, &name).await,
        Call::Backup => extension::backup(context, body).await,
        Call::Status => Ok(extension::status(context)),
        Call::Landing => Ok(pages::landing()),
        Call::Metrics => Ok(pages::metrics(context.app)),
        Call::Health => Ok(pages::health()),
        Call::Readiness => Ok(pages::readiness(context.app)),
        Call::WebSocket | Call::PutBlob(_) => Err(unknown_path()),
    }
}

fn not_supported(feature: &str) -> Failure {
    let text = format!("{feature}: not supported by Ostler (yet)");
    Failure::new(ErrorCode::FeatureNotSupported, text).with_status(StatusCode::NOT_IMPLEMENTED)
}
