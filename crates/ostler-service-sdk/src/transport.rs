//! One HTTP exchange with the hub, repeated where [`crate::retry`] says so.
//!
//! Must not know: routes, JSON shapes.
//!
//! Invariant: every request carries `api-version` and a fresh token, and every wait has an end.
//! Invariant: a response body is read up to [`MAX_BODY`] bytes and no further.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{HeaderValue, AUTHORIZATION, CONTENT_TYPE, IF_MATCH, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::Client as HttpClient;
use ring::rand::{SecureRandom, SystemRandom};

use crate::error::{BoxError, Error, Fault};
use crate::retry::{next_wait, Failure, Progress, RetryPolicy, Safety};
use crate::token::TokenSource;

/// The version all Azure service SDKs of today speak (service §1.2).
const API_VERSION: &str = "2021-04-12";

/// A list of 1,000 devices or modules stays far below this.
const MAX_BODY: usize = 64 << 20;

pub(crate) struct Transport {
    pub http: HttpClient<HttpsConnector<HttpConnector>, Full<Bytes>>,
    pub scheme: &'static str,
    /// `host:port` as dialled, for URLs and messages.
    pub authority: String,
    /// The hub's own name.
    pub hostname: String,
    pub tokens: TokenSource,
    pub retry: RetryPolicy,
    /// How long one attempt may take, unless the call says otherwise.
    pub timeout: Duration,
    pub user_agent: HeaderValue,
}

/// One operation in the words of HTTP.
pub(crate) struct Call {
    pub method: Method,
    /// Raw path with its ids already percent-encoded.
    pub path: String,
    /// Further query parameters, encoded, each starting with `&`.
    pub query: String,
    pub if_match: Option<String>,
    /// Further headers, names in lower case.
    pub headers: Vec<(&'static str, String)>,
    pub body: Option<Bytes>,
    pub safety: Safety,
    /// Replaces the client's time limit for one attempt.
    pub timeout: Option<Duration>,
}

impl Call {
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        let safety = if method == Method::POST { Safety::Once } else { Safety::Repeatable };
        Self {
            method,
            path: path.into(),
            query: String::new(),
            if_match: None,
            headers: Vec::new(),
            body: None,
            safety,
            timeout: None,
        }
    }
}

/// An answer whose body has been read.
pub(crate) struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// An earlier attempt may have been executed without its answer having come back.
    pub may_have_run_before: bool,
}

impl Reply {
    pub fn into_fault(self) -> Error {
        Error::Service(Box::new(Fault::read(self.status, &self.headers, &self.body)))
    }

    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| Error::UnexpectedAnswer {
            status: self.status.as_u16(),
            reason: format!("its body does not parse: {error}"),
        })
    }
}

impl Transport {
    /// Sends and reads the whole answer; an error status becomes [`Error::Service`].
    pub async fn send(&self, call: &Call) -> Result<Reply, Error> {
        let reply = self.exchange(call).await?;
        if reply.status.is_success() {
            Ok(reply)
        } else {
            Err(reply.into_fault())
        }
    }

    /// Like [`Self::send`], and hands out error statuses too once they are final.
    pub async fn exchange(&self, call: &Call) -> Result<Reply, Error> {
        let timeout = call.timeout.unwrap_or(self.timeout);
        let mut progress = Progress { attempts: 0, waited: Duration::ZERO };
        let mut may_have_run = false;
        loop {
            progress.attempts += 1;
            let started = Instant::now();
            let mut result = match tokio::time::timeout(timeout, self.attempt(call)).await {
                Ok(result) => result,
                Err(_) => Err(self.timed_out(timeout)),
            };
            if let Ok(reply) = &mut result {
                reply.may_have_run_before = may_have_run;
            }
            let Some(failure) = failure_of(&result) else { return result };
            let Some(wait) = next_wait(&self.retry, call.safety, failure, progress, jitter()) else {
                return result;
            };
            may_have_run |= failure.may_have_run();
            tracing::debug!(
                method = %call.method,
                attempt = progress.attempts,
                took_ms = started.elapsed().as_millis(),
                wait_ms = wait.as_millis(),
                ?failure,
                "trying again"
            );
            tokio::time::sleep(wait).await;
            progress.waited += wait;
        }
    }

    /// Sends once and hands out the answer with its body unread, for streams. Only the head has a time limit.
    pub async fn open(&self, call: &Call) -> Result<http::Response<Incoming>, Error> {
        let timeout = call.timeout.unwrap_or(self.timeout);
        let response = tokio::time::timeout(timeout, self.head(call))
            .await
            .unwrap_or_else(|_| Err(self.timed_out(timeout)))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(tokio::time::timeout(timeout, self.read(response))
            .await
            .unwrap_or_else(|_| Err(self.timed_out(timeout)))?
            .into_fault())
    }

    async fn attempt(&self, call: &Call) -> Result<Reply, Error> {
        let response = self.head(call).await?;
        self.read(response).await
    }

    async fn head(&self, call: &Call) -> Result<http::Response<Incoming>, Error> {
        let request = self.request(call)?;
        self.http.request(request).await.map_err(|error| {
            let authority = self.authority.clone();
            if error.is_connect() {
                Error::Connect { authority, source: error.into() }
            } else {
                Error::Interrupted { authority, source: error.into() }
            }
        })
    }

    async fn read(&self, response: http::Response<Incoming>) -> Result<Reply, Error> {
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY)
            .collect()
            .await
            .map_err(|source: BoxError| Error::Interrupted { authority: self.authority.clone(), source })?;
        Ok(Reply {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
            may_have_run_before: false,
        })
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, Error> {
        let uri = format!(
            "{}://{}{}?api-version={API_VERSION}{}",
            self.scheme, self.authority, call.path, call.query
        );
        let mut token = HeaderValue::try_from(self.tokens.token(SystemTime::now())).map_err(|_| {
            Error::Setup("the shared access signature has characters no header may have".into())
        })?;
        token.set_sensitive(true);
        let mut request = Request::builder()
            .method(&call.method)
            .uri(uri)
            .header(USER_AGENT, &self.user_agent)
            .header(AUTHORIZATION, token);
        if let Some(if_match) = &call.if_match {
            request = request.header(IF_MATCH, if_match);
        }
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        if call.body.is_some() && !call.headers.iter().any(|(name, _)| *name == CONTENT_TYPE.as_str()) {
            request = request.header(CONTENT_TYPE, "application/json; charset=utf-8");
        }
        request
            .body(Full::new(call.body.clone().unwrap_or_default()))
            .map_err(|error| Error::Setup(format!("the request cannot be written: {error}")))
    }

    fn timed_out(&self, after: Duration) -> Error {
        Error::Timeout { authority: self.authority.clone(), after }
    }
}

/// `None` when there is nothing left to try: a success, or a fault of this side.
fn failure_of(result: &Result<Reply, Error>) -> Option<Failure> {
    match result {
        Ok(reply) if reply.status.is_success() => None,
        Ok(reply) => {
            let retry_after = Fault::read(reply.status, &reply.headers, &[]).retry_after;
            Some(Failure::Refused { status: reply.status.as_u16(), retry_after })
        }
        // A certificate does not become trusted by asking again.
        Err(error) if error.is_untrusted_certificate() => None,
        Err(Error::Connect { .. }) => Some(Failure::NotSent),
        Err(Error::Interrupted { .. } | Error::Timeout { .. }) => Some(Failure::Unanswered),
        Err(_) => None,
    }
}

/// Uniform in `0.0..1.0`. Without randomness the full wait is the safe choice.
fn jitter() -> f64 {
    let mut bytes = [0; 4];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0),
        Err(_) => 1.0,
    }
}
