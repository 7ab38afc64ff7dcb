//! One byte stream to a host: TCP, through a proxy if there is one, with TLS, and as WebSocket where asked for
//! (device §2.1, §1.6).
//!
//! Must not know: MQTT, HTTP beyond the two handshakes, when to dial again.
//!
//! Invariant: without TLS nothing leaves this machine, unless the route says that it may.
//! Invariant: dialling ends within [`PATIENCE`].
//! Invariant: an error's text names the peer and never a secret.

mod head;
mod stream;
mod tcp;
#[cfg(feature = "websocket")]
mod websocket;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{Engine as _, BASE64_STANDARD};
use rustls::pki_types::ServerName;
use rustls::ClientConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use head::Head;
pub(crate) use stream::Stream;

/// How long dialling, TLS and the upgrade to WebSocket may take together.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An HTTP proxy through which connections are made by `CONNECT`.
///
/// Which hosts go through it is the caller's to decide: variables such as `NO_PROXY` are not looked at.
///
/// ```
/// use ostler_device_sdk::Proxy;
///
/// let proxy = Proxy::new("proxy.example.net", 3128).login("user", "secret");
/// assert!(!format!("{proxy:?}").contains("secret"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    host: String,
    port: u16,
    login: Option<(String, String)>,
}

impl Proxy {
    /// A proxy that asks for no login.
    ///
    /// ```
    /// ostler_device_sdk::Proxy::new("proxy.example.net", 3128);
    /// ```
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port, login: None }
    }

    /// Signs in to the proxy (basic authentication).
    ///
    /// ```
    /// ostler_device_sdk::Proxy::new("proxy.example.net", 3128).login("user", "secret");
    /// ```
    pub fn login(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.login = Some((user.into(), password.into()));
        self
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({}:{}, login: {})", self.host, self.port, self.login.is_some())
    }
}

/// How a host is reached.
#[derive(Clone)]
pub(crate) struct Route {
    /// Without brackets around an IPv6 address.
    pub host: String,
    pub port: u16,
    /// None for plain connections, which stay on this machine.
    pub tls: Option<Arc<ClientConfig>>,
    /// A plain connection may leave this machine: what it brings is verified by itself.
    pub plain_anywhere: bool,
    pub websocket: bool,
    pub proxy: Option<Proxy>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct DialError {
    pub kind: DialKind,
    pub text: String,
    /// How long the other side asked to be left alone.
    pub retry_after: Option<Duration>,
}

/// What the driver and HTTP tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DialKind {
    /// The name is not known.
    Dns,
    /// Nobody listens, or there is no way to the host.
    Refused,
    Timeout,
    /// The connection broke while it was made.
    Reset,
    /// The certificate is not one to trust. Trying again hardly helps.
    Certificate,
    /// Another TLS failure.
    Tls,
    /// The proxy does not let this client through.
    Proxy,
    /// The host answers, but not with what was asked for.
    Protocol,
    /// The host is too busy (429, 503).
    Busy,
    /// It may not be dialled without TLS.
    NotLoopback,
}

impl DialError {
    fn new(kind: DialKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), retry_after: None }
    }
}

impl Route {
    /// `host:port`, as in a URL.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Makes a connection.
    pub(crate) async fn dial(&self) -> Result<Stream, DialError> {
        match tokio::time::timeout(PATIENCE, self.dial_without_limit()).await {
            Ok(result) => result,
            Err(_) => {
                let text = format!("{} did not answer within {} s", self.authority(), PATIENCE.as_secs());
                Err(DialError::new(DialKind::Timeout, text))
            }
        }
    }

    async fn dial_without_limit(&self) -> Result<Stream, DialError> {
        let tcp = match &self.proxy {
            None => tcp::connect(&self.host, self.port, self.tls.is_none() && !self.plain_anywhere).await?,
            Some(proxy) => self.through(proxy).await?,
        };
        let stream = match &self.tls {
            None => Stream::Plain(tcp),
            Some(config) => self.encrypt(config, tcp).await?,
        };
        if self.websocket {
            return self.upgrade(stream).await;
        }
        Ok(stream)
    }

    async fn encrypt(&self, config: &Arc<ClientConfig>, tcp: TcpStream) -> Result<Stream, DialError> {
        let name = ServerName::try_from(self.host.clone()).map_err(|_| {
            DialError::new(DialKind::Dns, format!("`{}` is no name for a certificate", self.host))
        })?;
        let connector = TlsConnector::from(config.clone());
        let tls = connector.connect(name, tcp).await.map_err(|error| self.tls_error(&error))?;
        Ok(Stream::Tls(Box::new(tls)))
    }

    fn tls_error(&self, error: &io::Error) -> DialError {
        use rustls::CertificateError as C;
        let peer = self.authority();
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let (kind, text) = match inner {
            None => (DialKind::Reset, format!("the TLS handshake with {peer} broke off: {error}")),
            Some(rustls::Error::InvalidCertificate(problem)) => {
                let why = match problem {
                    C::UnknownIssuer => {
                        "no authority that is trusted here has issued it. For a private hub name its CA by OSTLER_CA_FILE \
                         or root_ca_pem (`ostler ca` prints it)"
                            .to_owned()
                    }
                    C::NotValidYet | C::NotValidYetContext { .. } | C::Expired | C::ExpiredContext { .. } => {
                        format!("{problem}. If the hub is well, this machine's clock is wrong: set it (NTP)")
                    }
                    C::NotValidForName | C::NotValidForNameContext { .. } => {
                        format!("{problem}. Use the hub's own name in HostName")
                    }
                    other => other.to_string(),
                };
                (DialKind::Certificate, format!("the certificate of {peer} is not accepted: {why}"))
            }
            Some(other) => (DialKind::Tls, format!("no TLS with {peer}: {other}")),
        };
        DialError::new(kind, text)
    }

    /// Asks the proxy for a connection to the host.
    async fn through(&self, proxy: &Proxy) -> Result<TcpStream, DialError> {
        if self.tls.is_none() {
            let text = "a plain connection stays on this machine and cannot go through a proxy";
            return Err(DialError::new(DialKind::NotLoopback, text));
        }
        let name = format!("the proxy {}:{}", proxy.host, proxy.port);
        let mut tcp = tcp::connect(&proxy.host, proxy.port, false)
            .await
            .map_err(|error| DialError { text: format!("{name}: {}", error.text), ..error })?;
        let authority = self.authority();
        let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
        if let Some((user, password)) = &proxy.login {
            let login = BASE64_STANDARD.encode(format!("{user}:{password}"));
            request.push_str(&format!("Proxy-Authorization: Basic {login}\r\n"));
        }
        request.push_str("\r\n");
        let broken = |error: io::Error| DialError::new(DialKind::Reset, format!("{name}: {error}"));
        tcp.write_all(request.as_bytes()).await.map_err(broken)?;
        let (head, rest) = Head::read(&mut tcp).await.map_err(broken)?;
        match head.status() {
            Some(200..=299) if rest.is_empty() => Ok(tcp),
            Some(407) => {
                let text = format!("{name} asks for a login, or does not accept the one given (407)");
                Err(DialError::new(DialKind::Proxy, text))
            }
            Some(status @ 400..=599) => {
                let kind = if matches!(status, 429 | 503) { DialKind::Busy } else { DialKind::Proxy };
                let text = format!("{name} does not connect to {authority}: {status}");
                Err(DialError { kind, text, retry_after: head.retry_after() })
            }
            _ => Err(DialError::new(DialKind::Proxy, format!("{name} does not speak HTTP CONNECT"))),
        }
    }

    #[cfg(feature = "websocket")]
    async fn upgrade(&self, stream: Stream) -> Result<Stream, DialError> {
        let frames = websocket::upgrade(stream, &self.authority()).await?;
        Ok(Stream::WebSocket(Box::new(frames)))
    }

    /// The builder refuses MQTT over WebSocket where the feature is off.
    #[cfg(not(feature = "websocket"))]
    async fn upgrade(&self, _stream: Stream) -> Result<Stream, DialError> {
        Err(DialError::new(DialKind::Protocol, "this program was built without the feature `websocket`"))
    }
}

/// Random bytes; the system's source is there on every machine that can do TLS.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    use ring::rand::{SecureRandom, SystemRandom};
    let mut bytes = [0; N];
    if SystemRandom::new().fill(&mut bytes).is_err() {
        tracing::warn!("the system has no randomness to give");
    }
    bytes
}
