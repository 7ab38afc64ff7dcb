//! HTTPS over the client's own trust, proxy and dialling: for firmware images, file uploads, and whatever else a device
//! fetches.
//!
//! One connection per request; answers stream. Redirects are answers like any other: whoever follows them counts them.
//!
//! Must not know: hubs' routes, what a file means, when to try again.
//!
//! Invariant: token and certificate go to the hub's own host and nowhere else.
//! Invariant: every wait has an end: dialling, the head, and each piece of the body.
//! Invariant: without TLS only this machine is asked, unless the request says otherwise.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, RANGE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, ReadBuf};

use crate::credential::Credential;
use crate::transport::{DialError, DialKind, Route};

/// How long the head of the answer, and each piece of its body, may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Read at once from a body that is sent.
const PIECE_BYTES: usize = 64 << 10;
/// Longer waits are not believed.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Makes HTTPS requests. Cheap to clone.
///
/// ```no_run
/// # async fn example(client: ostler_device_sdk::Client) -> Result<(), ostler_device_sdk::http::HttpError> {
/// let answer = client.https().get("https://files.example.net/image.bin").send().await?;
/// assert_eq!(answer.status(), 200);
/// let bytes = answer.bytes(1 << 20).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Https {
    shared: Arc<Shared>,
}

/// What all requests of a client have in common.
pub(crate) struct Shared {
    /// The hub, as dialled; token and certificate are for it.
    pub hub: Route,
    /// The hub's name in URLs; differs from the dialled one behind a gateway.
    pub hub_name: String,
    pub credential: Arc<Credential>,
    /// For hosts other than the hub: the same trust, no certificate.
    pub tls: Option<Arc<ClientConfig>>,
    pub user_agent: String,
}

/// Why there is no answer, or no whole one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The URL cannot be asked.
    #[error("`{url}` cannot be asked: {why}")]
    Url {
        /// As given, without its query, which may hold a secret.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A header's name or value is not one.
    #[error("`{0}` cannot be sent as a header")]
    Header(String),
    /// There is no connection.
    #[error("{text}")]
    Connect {
        /// What and why.
        text: String,
        /// Whether it may work later; false for certificates that are not trusted and the like.
        transient: bool,
        /// How long to wait at least, if the other side asked for it.
        retry_after: Option<Duration>,
    },
    /// The connection broke, or what came is not HTTP.
    #[error("the exchange with {host} broke off: {why}")]
    Broken {
        /// Whom the request went to.
        host: String,
        /// What happened.
        why: String,
    },
    /// Nothing came for too long.
    #[error("{host} said nothing for {} s", .after.as_secs())]
    Silent {
        /// Whom the request went to.
        host: String,
        /// How long it was waited.
        after: Duration,
    },
    /// The body is longer than asked for.
    #[error("the answer of {host} is longer than {limit} bytes")]
    TooLong {
        /// Whom the request went to.
        host: String,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The ready-made token has expired.
    #[error("the device's token has expired; make a new one")]
    TokenExpired,
    /// The body to send cannot be read.
    #[error("the body to send cannot be read: {0}")]
    Source(String),
}

impl HttpError {
    /// Whether the same request may work later.
    ///
    /// ```
    /// # use ostler_device_sdk::http::HttpError;
    /// assert!(HttpError::Broken { host: "h".into(), why: "reset".into() }.is_transient());
    /// assert!(!HttpError::TokenExpired.is_transient());
    /// ```
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { transient, .. } => *transient,
            Self::Broken { .. } | Self::Silent { .. } => true,
            _ => false,
        }
    }
}

impl From<DialError> for HttpError {
    fn from(error: DialError) -> Self {
        let transient = !matches!(error.kind, DialKind::Certificate | DialKind::NotLoopback);
        Self::Connect { text: error.text, transient, retry_after: error.retry_after }
    }
}

impl Https {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The hub's own address: what a path of the hub is appended to, as `https://hub.example.net:443`.
    ///
    /// ```no_run
    /// # fn example(client: ostler_device_sdk::Client) {
    /// let url = format!("{}/devices/pump-7/files?api-version=2021-04-12", client.https().hub_url());
    /// # }
    /// ```
    pub fn hub_url(&self) -> String {
        let scheme = if self.shared.hub.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.shared.hub_name, self.shared.hub.port)
    }

    /// A GET request.
    ///
    /// ```no_run
    /// # async fn example(https: ostler_device_sdk::http::Https) -> Result<(), ostler_device_sdk::http::HttpError> {
    /// let rest = https.get("https://files.example.net/image.bin").range_from(4096).send().await?;
    /// # Ok(()) }
    /// ```
    pub fn get(&self, url: &str) -> Request {
        self.request(Method::GET, url)
    }

    /// A HEAD request.
    ///
    /// ```no_run
    /// # async fn example(https: ostler_device_sdk::http::Https) -> Result<(), ostler_device_sdk::http::HttpError> {
    /// let head = https.head("https://files.example.net/image.bin").send().await?;
    /// # Ok(()) }
    /// ```
    pub fn head(&self, url: &str) -> Request {
        self.request(Method::HEAD, url)
    }

    /// A POST request.
    ///
    /// ```no_run
    /// # async fn example(https: ostler_device_sdk::http::Https) -> Result<(), ostler_device_sdk::http::HttpError> {
    /// let answer = https.post("https://files.example.net/log").body("it works").send().await?;
    /// # Ok(()) }
    /// ```
    pub fn post(&self, url: &str) -> Request {
        self.request(Method::POST, url)
    }

    /// A PUT request.
    ///
    /// ```no_run
    /// # async fn example(https: ostler_device_sdk::http::Https) -> Result<(), ostler_device_sdk::http::HttpError> {
    /// let answer = https.put("https://files.example.net/log").body("it works").send().await?;
    /// # Ok(()) }
    /// ```
    pub fn put(&self, url: &str) -> Request {
        self.request(Method::PUT, url)
    }

    fn request(&self, method: Method, url: &str) -> Request {
        Request {
            shared: self.shared.clone(),
            method,
            url: url.to_owned(),
            headers: Ok(HeaderMap::new()),
            body: Content::Empty,
            patience: PATIENCE,
            sign_in: false,
            plain_allowed: false,
        }
    }
}

impl fmt::Debug for Https {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Https(hub: {})", self.shared.hub.authority())
    }
}

/// A request on its way.
///
/// ```no_run
/// # use std::time::Duration;
/// # async fn example(https: ostler_device_sdk::http::Https) -> Result<(), ostler_device_sdk::http::HttpError> {
/// let request = https.get("https://files.example.net/x").header("if-none-match", "\"v1\"");
/// let answer = request.timeout(Duration::from_secs(10)).send().await?;
/// # Ok(()) }
/// ```
#[must_use = "nothing is sent before `send`"]
pub struct Request {
    shared: Arc<Shared>,
    method: Method,
    url: String,
    headers: Result<HeaderMap, String>,
    body: Content,
    patience: Duration,
    sign_in: bool,
    plain_allowed: bool,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, without_query(&self.url))
    }
}

impl Request {
    /// Adds a header. A name or value that cannot be sent fails [`Request::send`].
    ///
    /// ```no_run
    /// # fn example(https: ostler_device_sdk::http::Https) {
    /// let request = https.put("https://files.example.net/x").header("content-type", "text/plain");
    /// # }
    /// ```
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Ok(headers) = &mut self.headers {
            match (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                (Ok(name), Ok(value)) => {
                    headers.append(name, value);
                }
                _ => self.headers = Err(name.to_owned()),
            }
        }
        self
    }

    /// Asks for the bytes from `start` on (206 if the other side agrees, 200 with everything if not).
    ///
    /// ```no_run
    /// # fn example(https: ostler_device_sdk::http::Https) {
    /// let request = https.get("https://files.example.net/x").range_from(1 << 20);
    /// # }
    /// ```
    pub fn range_from(self, start: u64) -> Self {
        self.header(RANGE.as_str(), &format!("bytes={start}-"))
    }

    /// Asks for the bytes `start..end` (206 if the other side agrees, 200 with everything if not).
    ///
    /// ```no_run
    /// # fn example(https: ostler_device_sdk::http::Https) {
    /// let request = https.get("https://files.example.net/x").range(0..4096);
    /// # }
    /// ```
    pub fn range(self, bytes: std::ops::Range<u64>) -> Self {
        let last = bytes.end.saturating_sub(1);
        self.header(RANGE.as_str(), &format!("bytes={}-{last}", bytes.start))
    }

    /// What is sent.
    ///
    /// ```no_run
    /// # fn example(https: ostler_device_sdk::http::Https) {
    /// let request = https.put("https://files.example.net/x").body(vec![1, 2, 3]);
    /// # }
    /// ```
    pub fn body(mut self, bytes: impl Into<Bytes>) -> Self {
        self.body = Content::Bytes(bytes.into());
        self
    }

    /// What is sent, read as it goes: exactly `length` bytes, or the request fails.
    ///
    /// ```no_run
    /// # async fn example(https: ostler_device_sdk::http::Https) -> Result<(), Box<dyn std::error::Error>> {
    /// let log: &'static [u8] = b"line 1\nline 2\n";
    /// let answer = https.put("https://files.example.net/x").body_from(log, 14).send().await?;
    /// # Ok(()) }
    /// ```
    pub fn body_from(mut self, source: impl AsyncRead + Send + 'static, length: u64) -> Self {
        self.body = Content::Source(Box::pin(source), length);
        self
    }

    /// How long the head of the answer, and then each piece of its body, may take. Default 60 s.
    ///
    /// ```no_run
    /// # fn example(https: ostler_device_sdk::http::Https) {
    /// let request = https.get("https://files.example.net/x").timeout(std::time::Duration::from_secs(5));
    /// # }
    /// ```
    pub fn timeout(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Signs in as the device, by token or certificate. Only for the hub's own host: anything else is refused by
    /// [`Request::send`].
    ///
    /// ```no_run
    /// # async fn example(https: ostler_device_sdk::http::Https) -> Result<(), ostler_device_sdk::http::HttpError> {
    /// let url = format!("{}/devices/pump-7/files?api-version=2021-04-12", https.hub_url());
    /// let answer = https.post(&url).sign_in().body(r#"{"blobName":"log"}"#).send().await?;
    /// # Ok(()) }
    /// ```
    pub fn sign_in(mut self) -> Self {
        self.sign_in = true;
        self
    }

    /// Lets a `http:` URL be asked on other machines too: for what is verified by itself, such as a signed image.
    ///
    /// ```no_run
    /// # fn example(https: ostler_device_sdk::http::Https) {
    /// let request = https.get("http://files.example.net/signed.bin").allow_plain_http();
    /// # }
    /// ```
    pub fn allow_plain_http(mut self) -> Self {
        self.plain_allowed = true;
        self
    }

    /// Sends the request and waits for the head of the answer, of whatever status.
    ///
    /// # Errors
    /// [`HttpError`], if there is no answer.
    ///
    /// ```no_run
    /// # async fn example(https: ostler_device_sdk::http::Https) -> Result<(), ostler_device_sdk::http::HttpError> {
    /// let answer = https.get("https://files.example.net/x").send().await?;
    /// println!("{}", answer.status());
    /// # Ok(()) }
    /// ```
    pub async fn send(self) -> Result<Response, HttpError> {
        let (uri, route) = self.route()?;
        let host = route.authority();
        let stream = route.dial().await?;
        let patience = self.patience;
        let request = self.into_http(&uri)?;
        let broken = |error: hyper::Error| HttpError::Broken { host: host.clone(), why: chain(&error) };
        let exchange = async {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
            let mut connection: Connection = Box::pin(connection);
            let mut answer = Box::pin(sender.send_request(request));
            // The connection is polled here and with the body, so that dropping the answer ends it.
            let response = std::future::poll_fn(|cx| {
                let over = connection.as_mut().poll(cx);
                match (answer.as_mut().poll(cx), over) {
                    (Poll::Ready(answer), _) => Poll::Ready(answer),
                    (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
                    (Poll::Pending, _) => Poll::Pending,
                }
            })
            .await
            .map_err(broken)?;
            Ok((response, connection))
        };
        let (response, connection) = tokio::time::timeout(patience, exchange)
            .await
            .unwrap_or_else(|_| Err(HttpError::Silent { host: host.clone(), after: patience }))?;
        let (head, body) = response.into_parts();
        Ok(Response {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
            connection: Some(connection),
            host,
            patience,
        })
    }

    fn route(&self) -> Result<(Uri, Route), HttpError> {
        let bad =
            |why: &str| HttpError::Url { url: without_query(&self.url).to_owned(), why: why.to_owned() };
        let uri: Uri = self.url.parse().map_err(|_| bad("it is not a URL"))?;
        let host = uri.host().ok_or_else(|| bad("it names no host"))?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(bad("a URL with a login is not asked"));
        }
        let plain = match uri.scheme_str() {
            Some("https") => false,
            Some("http") => true,
            _ => return Err(bad("it must start with https://")),
        };
        let port = uri.port_u16().unwrap_or(if plain { 80 } else { 443 });
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let hub = &self.shared.hub;
        let is_hub = bare.eq_ignore_ascii_case(self.shared.hub_name.trim_matches(['[', ']']))
            && port == hub.port
            && plain == hub.tls.is_none();
        if self.sign_in && !is_hub {
            return Err(bad("the device's credential is for its hub only"));
        }
        if is_hub {
            return Ok((uri, hub.clone()));
        }
        let local = bare == "localhost" || bare.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        if plain && !local && !self.plain_allowed {
            return Err(bad("without TLS only this machine is asked; use https://"));
        }
        let tls = self.shared.tls.clone().filter(|_| !plain);
        if tls.is_none() && !plain {
            let text = crate::SetupError::NoRoots.to_string();
            return Err(HttpError::Connect { text, transient: false, retry_after: None });
        }
        let proxy = hub.proxy.clone().filter(|_| !plain);
        let host = bare.to_owned();
        let plain_anywhere = plain && self.plain_allowed;
        Ok((uri, Route { host, port, tls, plain_anywhere, websocket: false, proxy }))
    }

    fn into_http(self, uri: &Uri) -> Result<http::Request<Content>, HttpError> {
        let mut headers = self.headers.map_err(HttpError::Header)?;
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| HttpError::Header(text.to_owned()));
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        headers.insert(HOST, value(authority)?);
        headers.entry(USER_AGENT).or_insert(value(&self.shared.user_agent)?);
        if self.sign_in {
            let password = self.shared.credential.password(SystemTime::now());
            let password = password.map_err(|_| HttpError::TokenExpired)?;
            if let Some(token) = password.text {
                let mut token = value(&token)?;
                token.set_sensitive(true);
                headers.insert(AUTHORIZATION, token);
            }
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = http::Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = path.parse().map_err(|_| HttpError::Url {
            url: without_query(&self.url).to_owned(),
            why: "it has no path".to_owned(),
        })?;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

type Connection = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// An answer whose body is read piece by piece.
///
/// ```no_run
/// # async fn example(https: ostler_device_sdk::http::Https) -> Result<(), ostler_device_sdk::http::HttpError> {
/// let mut answer = https.get("https://files.example.net/image.bin").send().await?;
/// while let Some(piece) = answer.chunk().await? {
///     println!("{} bytes", piece.len());
/// }
/// # Ok(()) }
/// ```
pub struct Response {
    status: u16,
    headers: HeaderMap,
    body: Incoming,
    connection: Option<Connection>,
    host: String,
    patience: Duration,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response({} from {})", self.status, self.host)
    }
}

impl Response {
    /// The status, as 200.
    ///
    /// ```no_run
    /// # fn example(answer: ostler_device_sdk::http::Response) {
    /// assert_eq!(answer.status(), 200);
    /// # }
    /// ```
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The first header of this name, if it is text.
    ///
    /// ```no_run
    /// # fn example(answer: ostler_device_sdk::http::Response) {
    /// let etag = answer.header("etag");
    /// # }
    /// ```
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// How long the body is, if the other side says so.
    ///
    /// ```no_run
    /// # fn example(answer: ostler_device_sdk::http::Response) {
    /// let bytes = answer.content_length();
    /// # }
    /// ```
    pub fn content_length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH.as_str())?.parse().ok()
    }

    /// How long the other side asks to be left alone; an hour at most.
    ///
    /// ```no_run
    /// # fn example(answer: ostler_device_sdk::http::Response) {
    /// let wait = answer.retry_after().unwrap_or_default();
    /// # }
    /// ```
    pub fn retry_after(&self) -> Option<Duration> {
        let secs = self.header(RETRY_AFTER.as_str())?.parse().ok()?;
        Some(Duration::from_secs(secs).min(LONGEST_WAIT))
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// If it breaks off before its end, or nothing comes for the time of [`Request::timeout`].
    ///
    /// ```no_run
    /// # async fn example(mut answer: ostler_device_sdk::http::Response) -> Result<(), ostler_device_sdk::http::HttpError> {
    /// while let Some(piece) = answer.chunk().await? {
    ///     println!("{} bytes", piece.len());
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        let patience = self.patience;
        loop {
            let frame = tokio::time::timeout(patience, std::future::poll_fn(|cx| self.poll_frame(cx)));
            match frame.await {
                Err(_) => return Err(HttpError::Silent { host: self.host.clone(), after: patience }),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => {
                    return Err(HttpError::Broken { host: self.host.clone(), why: chain(&error) })
                }
                Ok(Some(Ok(frame))) => {
                    // Trailers are of no interest.
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        if let Some(connection) = &mut self.connection {
            // What went wrong with it comes out of the body too.
            if connection.as_mut().poll(cx).is_ready() {
                self.connection = None;
            }
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    /// The whole body, if it has no more than `limit` bytes.
    ///
    /// # Errors
    /// As [`Response::chunk`], and if it is longer.
    ///
    /// ```no_run
    /// # async fn example(answer: ostler_device_sdk::http::Response) -> Result<(), ostler_device_sdk::http::HttpError> {
    /// let text = answer.bytes(64 << 10).await?;
    /// # Ok(()) }
    /// ```
    pub async fn bytes(mut self, limit: usize) -> Result<Bytes, HttpError> {
        let mut whole = Vec::new();
        while let Some(piece) = self.chunk().await? {
            if whole.len() + piece.len() > limit {
                return Err(HttpError::TooLong { host: self.host, limit });
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.into())
    }
}

/// A body that is sent.
enum Content {
    Empty,
    Bytes(Bytes),
    Source(Pin<Box<dyn AsyncRead + Send>>, u64),
}

impl Body for Content {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Source(_, 0) => Poll::Ready(None),
            Self::Source(source, left) => {
                let size = PIECE_BYTES.min(usize::try_from(*left).unwrap_or(PIECE_BYTES));
                let mut piece = vec![0; size];
                let mut buffer = ReadBuf::new(&mut piece);
                match source.as_mut().poll_read(cx, &mut buffer) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(error)) => Poll::Ready(Some(Err(HttpError::Source(error.to_string())))),
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                        let text = format!("it ends {left} bytes too early");
                        Poll::Ready(Some(Err(HttpError::Source(text))))
                    }
                    Poll::Ready(Ok(())) => {
                        let count = buffer.filled().len();
                        piece.truncate(count);
                        *left -= count as u64;
                        Poll::Ready(Some(Ok(Frame::data(piece.into()))))
                    }
                }
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Source(_, left) => SizeHint::with_exact(*left),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty | Self::Source(_, 0))
    }
}

/// The query may hold a signature.
fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

/// An error and what is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
