//! The client and how it is set up.
//!
//! Must not know: routes, JSON shapes.
//!
//! Invariant: plain HTTP is spoken only to loopback addresses, and only when asked for.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::connection_string::ConnectionString;
use crate::error::Error;
use crate::retry::RetryPolicy;
use crate::token::TokenSource;
use crate::transport::Transport;
use crate::trust;

/// Connections kept open to the hub when idle.
const MAX_IDLE_CONNECTIONS: usize = 32;
/// Shorter than common servers and proxies keep theirs, so that a request seldom meets a closing connection.
const IDLE_CONNECTION: Duration = Duration::from_secs(50);

/// A back end's view of one hub. Cheap to clone; clones share connections and token.
#[derive(Clone)]
pub struct Client {
    pub(crate) transport: Arc<Transport>,
}

impl Client {
    /// A client with default settings that trusts the certificate authorities of the operating system.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::Client;
    ///
    /// let hub = Client::from_connection_string("HostName=…;SharedAccessKeyName=service;SharedAccessKey=…")?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the connection string is unusable, or the system's certificate authorities cannot be read.
    pub fn from_connection_string(text: &str) -> Result<Self, Error> {
        Self::builder(text)?.build()
    }

    /// Starts from a connection string and lets the rest be set.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::{Client, RetryPolicy};
    /// use std::time::Duration;
    ///
    /// let hub = Client::builder("HostName=localhost:8443;SharedAccessKeyName=service;SharedAccessKey=…")?
    ///     .root_ca_pem(std::fs::read("ostler-data/ca.pem").unwrap_or_default())
    ///     .retry(RetryPolicy { budget: Duration::from_secs(120), max_attempts: 20, ..RetryPolicy::default() })
    ///     .user_agent("my-back-end/1.0")
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the connection string is unusable.
    pub fn builder(connection_string: &str) -> Result<Builder, Error> {
        Ok(Builder::new(connection_string.parse()?))
    }

    /// `host:port` this client dials.
    ///
    /// ```no_run
    /// # fn example(hub: ostler_service_sdk::Client) {
    /// println!("talking to {}", hub.authority()); // localhost:8443
    /// # }
    /// ```
    pub fn authority(&self) -> &str {
        &self.transport.authority
    }

    /// The hub's own name, as its devices' connection strings carry it.
    ///
    /// ```no_run
    /// # fn example(hub: ostler_service_sdk::Client) {
    /// println!("HostName={};…", hub.hostname()); // localhost
    /// # }
    /// ```
    pub fn hostname(&self) -> &str {
        &self.transport.hostname
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("authority", &self.authority()).finish_non_exhaustive()
    }
}

/// Settings of a [`Client`].
#[derive(Debug, Clone)]
pub struct Builder {
    connection_string: ConnectionString,
    dial: Option<String>,
    port: Option<u16>,
    root_ca_pem: Vec<Vec<u8>>,
    system_roots: bool,
    plain_http: bool,
    connect_timeout: Duration,
    timeout: Duration,
    retry: RetryPolicy,
    user_agent: Option<String>,
}

impl Builder {
    /// Settings for the hub a connection string names.
    ///
    /// ```no_run
    /// # fn example() -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::{Builder, ConnectionString};
    ///
    /// let text = "HostName=…;SharedAccessKeyName=service;SharedAccessKey=…";
    /// let hub = Builder::new(text.parse::<ConnectionString>()?).build()?;
    /// # Ok(()) }
    /// ```
    pub fn new(connection_string: ConnectionString) -> Self {
        Self {
            connection_string,
            dial: None,
            port: None,
            root_ca_pem: Vec::new(),
            system_roots: true,
            plain_http: false,
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
            retry: RetryPolicy::default(),
            user_agent: None,
        }
    }

    /// Dials this host instead of the one in the connection string, and expects its name in the certificate. Tokens
    /// still name the hub by its own name.
    ///
    /// ```no_run
    /// # fn example(builder: ostler_service_sdk::Builder) -> Result<(), ostler_service_sdk::Error> {
    /// // The hub is behind a load balancer that has its own name and certificate.
    /// let hub = builder.dial("gateway.plant.example").build()?;
    /// # Ok(()) }
    /// ```
    pub fn dial(mut self, host: impl Into<String>) -> Self {
        self.dial = Some(host.into());
        self
    }

    /// Dials this port instead of the one in the connection string or 443.
    ///
    /// ```no_run
    /// # fn example(builder: ostler_service_sdk::Builder) -> Result<(), ostler_service_sdk::Error> {
    /// let hub = builder.port(8443).build()?;
    /// # Ok(()) }
    /// ```
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Trusts these certificate authorities (PEM, one or more) besides those of the operating system and those in the
    /// files that `OSTLER_CA_FILE` and `SSL_CERT_FILE` name.
    ///
    /// ```no_run
    /// # fn example(builder: ostler_service_sdk::Builder) -> Result<(), ostler_service_sdk::Error> {
    /// let hub = builder.root_ca_pem(std::fs::read("ostler-data/ca.pem").unwrap_or_default()).build()?;
    /// # Ok(()) }
    /// ```
    pub fn root_ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_ca_pem.push(pem.into());
        self
    }

    /// Leaves out what the operating system trusts; what [`Self::root_ca_pem`], `OSTLER_CA_FILE` and `SSL_CERT_FILE`
    /// name still counts.
    ///
    /// ```no_run
    /// # fn example(builder: ostler_service_sdk::Builder) -> Result<(), ostler_service_sdk::Error> {
    /// let ca = std::fs::read("ostler-data/ca.pem").unwrap_or_default();
    /// let hub = builder.root_ca_pem(ca).without_system_roots().build()?;
    /// # Ok(()) }
    /// ```
    pub fn without_system_roots(mut self) -> Self {
        self.system_roots = false;
        self
    }

    /// Speaks HTTP without TLS. Refused unless the host is a loopback address: the token and the keys of devices
    /// would otherwise cross a network in the clear.
    ///
    /// ```no_run
    /// # fn example(builder: ostler_service_sdk::Builder) -> Result<(), ostler_service_sdk::Error> {
    /// // The hub runs with `--plain-http-port 8080`.
    /// let hub = builder.plain_http().port(8080).build()?;
    /// # Ok(()) }
    /// ```
    pub fn plain_http(mut self) -> Self {
        self.plain_http = true;
        self
    }

    /// How long to wait for a TCP connection. 10 s by default.
    ///
    /// ```no_run
    /// # fn example(builder: ostler_service_sdk::Builder) -> Result<(), ostler_service_sdk::Error> {
    /// let hub = builder.connect_timeout(std::time::Duration::from_secs(3)).build()?;
    /// # Ok(()) }
    /// ```
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long one attempt may take. 30 s by default; method calls add what the device is given.
    ///
    /// ```no_run
    /// # fn example(builder: ostler_service_sdk::Builder) -> Result<(), ostler_service_sdk::Error> {
    /// let hub = builder.timeout(std::time::Duration::from_secs(10)).build()?;
    /// # Ok(()) }
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How hard to try when the hub is busy or away.
    ///
    /// ```no_run
    /// # fn example(builder: ostler_service_sdk::Builder) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::RetryPolicy;
    ///
    /// let hub = builder.retry(RetryPolicy::none()).build()?;
    /// # Ok(()) }
    /// ```
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Put before the name of this library in the `User-Agent` header.
    ///
    /// ```no_run
    /// # fn example(builder: ostler_service_sdk::Builder) -> Result<(), ostler_service_sdk::Error> {
    /// let hub = builder.user_agent("my-back-end/1.0").build()?;
    /// # Ok(()) }
    /// ```
    pub fn user_agent(mut self, product: impl Into<String>) -> Self {
        self.user_agent = Some(product.into());
        self
    }

    /// Makes the client. No connection is opened yet.
    ///
    /// ```no_run
    /// # fn example(builder: ostler_service_sdk::Builder) -> Result<(), ostler_service_sdk::Error> {
    /// let hub = builder.build()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Setup`] for unreadable certificates, or plain HTTP to another machine.
    pub fn build(self) -> Result<Client, Error> {
        let host = self.dial.as_deref().unwrap_or(self.connection_string.host());
        if self.plain_http && !is_loopback(host) {
            return Err(Error::Setup(format!(
                "plain HTTP is spoken to loopback addresses only, and {host} is not one"
            )));
        }
        let default_port = if self.plain_http { 80 } else { 443 };
        let port = self.port.or(self.connection_string.port()).unwrap_or(default_port);
        let library = concat!("ostler-service-sdk/", env!("CARGO_PKG_VERSION"));
        let user_agent = match &self.user_agent {
            Some(product) => format!("{product} {library}"),
            None => library.to_owned(),
        };
        let transport = Transport {
            http: self.http_client()?,
            scheme: if self.plain_http { "http" } else { "https" },
            authority: format!("{host}:{port}"),
            hostname: self.connection_string.host().to_owned(),
            tokens: TokenSource::new(self.connection_string.credential(), self.connection_string.host()),
            retry: self.retry,
            timeout: self.timeout,
            user_agent: HeaderValue::try_from(user_agent)
                .map_err(|_| Error::Setup("the user agent has characters no header may have".into()))?,
        };
        Ok(Client { transport: Arc::new(transport) })
    }

    fn http_client<B>(&self) -> Result<HttpClient<hyper_rustls::HttpsConnector<HttpConnector>, B>, Error>
    where
        B: http_body::Body + Send,
        B::Data: Send,
    {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        tcp.set_connect_timeout(Some(self.connect_timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(self.tls()?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(HttpClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_CONNECTION)
            .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
            .build(connector))
    }

    fn roots(&self) -> Result<rustls::RootCertStore, Error> {
        if self.plain_http {
            return Ok(rustls::RootCertStore::empty());
        }
        trust::roots(&self.root_ca_pem, self.system_roots)
    }

    fn tls(&self) -> Result<rustls::ClientConfig, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Setup(format!("TLS: {error}")))?
            .with_root_certificates(self.roots()?)
            .with_no_client_auth())
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder(host: &str) -> Builder {
        Client::builder(&format!(
            "HostName={host};SharedAccessKeyName=p;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw=="
        ))
        .unwrap()
    }

    #[test]
    fn the_port_comes_from_the_setting_then_the_string_then_https() {
        let authority =
            |builder: Builder| builder.without_system_roots().build().unwrap().authority().to_owned();
        assert_eq!(authority(builder("h.example")), "h.example:443");
        assert_eq!(authority(builder("h.example:8443")), "h.example:8443");
        assert_eq!(authority(builder("h.example:8443").port(9)), "h.example:9");
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        for host in ["localhost", "127.0.0.1", "127.8.8.8", "[::1]"] {
            assert!(builder(host).plain_http().build().is_ok(), "{host}");
        }
        for host in ["h.example", "10.0.0.1", "[2001:db8::1]", "localhost.example"] {
            assert!(matches!(builder(host).plain_http().build(), Err(Error::Setup(_))), "{host}");
        }
    }

    #[test]
    fn a_ca_file_without_a_certificate_is_refused() {
        for pem in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(matches!(builder("h").root_ca_pem(pem).build(), Err(Error::Setup(_))), "{pem:?}");
        }
    }
}
