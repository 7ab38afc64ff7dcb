//! How a client is set up, checked before anything is connected.
//!
//! Must not know: what is said over the connection.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ostler_wire::username::Username;
use tokio::runtime::Handle;

use crate::client::Client;
use crate::connection_string::ConnectionString;
use crate::credential::{Credential, DEFAULT_LIFETIME, LONGEST_LIFETIME, SHORTEST_LIFETIME};
use crate::engine::{Engine, QueueLimits, Settings, TwinSync};
use crate::error::SetupError;
use crate::retry::RetryPolicy;
use crate::shared::{Inner, Parts};
use crate::tls::{client_config, Identity, Trust};
use crate::transport::{random, Proxy, Route};

const MQTT_PORT: u16 = 8883;
const PLAIN_MQTT_PORT: u16 = 1883;
const HTTPS_PORT: u16 = 443;
const API_VERSION: &str = "2021-04-12";
const OWN_NAME: &str = concat!("ostler-device-sdk/", env!("CARGO_PKG_VERSION"));
/// Longer promises are cut by hubs (device §2.6).
const LONGEST_KEEP_ALIVE: Duration = Duration::from_secs(1177);
/// MQTT allows 65,535 bytes for a user name.
const MAX_TEXT_BYTES: usize = 2048;

/// How the client speaks to its hub.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// use ostler_device_sdk::{Client, Protocol};
///
/// let connection = "HostName=hub.example.net;DeviceId=pump-7;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==".parse()?;
/// let client = Client::builder(connection).protocol(Protocol::MqttWebSocket).build();
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT over TLS, port 8883.
    #[default]
    Mqtt,
    /// MQTT over WebSocket over TLS, port 443: where only HTTPS gets through.
    MqttWebSocket,
}

/// The settings of a client to be; see [`Client::builder`].
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// use ostler_device_sdk::{Client, RetryPolicy};
/// use std::time::Duration;
///
/// let connection = "HostName=hub.example.net;DeviceId=pump-7;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==".parse()?;
/// let client = Client::builder(connection)
///     .product_info("pump-control/2.1")
///     .keep_alive(Duration::from_secs(60))
///     .retry(RetryPolicy { max_wait: Duration::from_secs(300), ..RetryPolicy::default() })
///     .build();
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "nothing is made before `build`"]
pub struct Builder {
    connection: ConnectionString,
    protocol: Protocol,
    mqtt_port: Option<u16>,
    https_port: Option<u16>,
    trust: Trust,
    certificate: Option<(Vec<u8>, Vec<u8>)>,
    proxy: Option<Proxy>,
    product_info: Option<String>,
    model_id: Option<String>,
    api_version: String,
    keep_alive: Duration,
    clean_session: bool,
    token_lifetime: Duration,
    retry: RetryPolicy,
    queue: QueueLimits,
    operation_timeout: Duration,
    twin_sync: TwinSync,
    plain: bool,
    runtime: Option<Handle>,
}

impl Builder {
    pub(crate) fn new(connection: ConnectionString) -> Self {
        Self {
            connection,
            protocol: Protocol::Mqtt,
            mqtt_port: None,
            https_port: None,
            trust: Trust::default(),
            certificate: None,
            proxy: None,
            product_info: None,
            model_id: None,
            api_version: API_VERSION.to_owned(),
            keep_alive: Duration::from_secs(240),
            clean_session: false,
            token_lifetime: DEFAULT_LIFETIME,
            retry: RetryPolicy::default(),
            queue: QueueLimits::default(),
            operation_timeout: Duration::from_secs(60),
            twin_sync: TwinSync::default(),
            plain: false,
            runtime: None,
        }
    }

    /// How to speak to the hub. Default [`Protocol::Mqtt`].
    ///
    /// ```no_run
    /// # fn example(builder: ostler_device_sdk::Builder) {
    /// let builder = builder.protocol(ostler_device_sdk::Protocol::MqttWebSocket);
    /// # }
    /// ```
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// The hub's MQTT port. Default 8883, and 1883 with [`Builder::plain`].
    ///
    /// ```no_run
    /// # fn example(builder: ostler_device_sdk::Builder) {
    /// let builder = builder.mqtt_port(18883);
    /// # }
    /// ```
    pub fn mqtt_port(mut self, port: u16) -> Self {
        self.mqtt_port = Some(port);
        self
    }

    /// The hub's port for HTTPS and MQTT over WebSocket. Default the one of the connection string's `HostName`, or 443.
    ///
    /// ```no_run
    /// # fn example(builder: ostler_device_sdk::Builder) {
    /// let builder = builder.https_port(8443);
    /// # }
    /// ```
    pub fn https_port(mut self, port: u16) -> Self {
        self.https_port = Some(port);
        self
    }

    /// Trusts these certificate authorities too; PEM text, may hold several. The variables `SSL_CERT_FILE` and
    /// `OSTLER_CA_FILE` name files of more.
    ///
    /// ```no_run
    /// # fn example(builder: ostler_device_sdk::Builder) {
    /// let builder = builder.root_ca_pem("-----BEGIN CERTIFICATE-----\n…");
    /// # }
    /// ```
    pub fn root_ca_pem(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.trust.pems.push(pem.as_ref().to_vec());
        self
    }

    /// Does not trust the authorities of the operating system.
    ///
    /// ```no_run
    /// # fn example(builder: ostler_device_sdk::Builder) {
    /// let builder = builder.without_system_roots();
    /// # }
    /// ```
    pub fn without_system_roots(mut self) -> Self {
        self.trust.without_system = true;
        self
    }

    /// Signs in with this certificate: PEM texts of the chain, the device's own certificate first, and of its key.
    ///
    /// ```no_run
    /// # fn example(builder: ostler_device_sdk::Builder) {
    /// let builder = builder.client_certificate_pem("-----BEGIN CERTIFICATE-----\n…", "-----BEGIN PRIVATE KEY-----\n…");
    /// # }
    /// ```
    pub fn client_certificate_pem(mut self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        self.certificate = Some((chain.as_ref().to_vec(), key.as_ref().to_vec()));
        self
    }

    /// Connects through this proxy.
    ///
    /// ```no_run
    /// # fn example(builder: ostler_device_sdk::Builder) {
    /// let builder = builder.proxy(ostler_device_sdk::Proxy::new("proxy.example.net", 3128));
    /// # }
    /// ```
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.proxy = Some(proxy);
        self
    }

    /// What the device says it is, as `pump-control/2.1`; the hub's operator sees it.
    ///
    /// ```no_run
    /// # fn example(builder: ostler_device_sdk::Builder) {
    /// let builder = builder.product_info("pump-control/2.1");
    /// # }
    /// ```
    pub fn product_info(mut self, text: impl Into<String>) -> Self {
        self.product_info = Some(text.into());
        self
    }

    /// The plug-and-play model that the device implements, as `dtmi:com:example:Pump;1`.
    ///
    /// ```no_run
    /// # fn example(builder: ostler_device_sdk::Builder) {
    /// let builder = builder.model_id("dtmi:com:example:Pump;1");
    /// # }
    /// ```
    pub fn model_id(mut self, model: impl Into<String>) -> Self {
        self.model_id = Some(model.into());
        self
    }

    /// The version of the hub's interface to ask for. Default `2021-04-12`.
    ///
    /// ```no_run
    /// # fn example(builder: ostler_device_sdk::Builder) {
    /// let builder = builder.api_version("2020-09-30");
    /// # }
    /// ```
    pub fn api_version(mut self, version: impl Into<String>) -> Self {
        self.api_version = version.into();
        self
    }

    /// How long the device may be silent before the hub takes it for gone; zero for no promise. It pings every half of
    /// it. Default 240 s, at most 1177 s.
    ///
    /// ```no_run
    /// # fn example(builder: ostler_device_sdk::Builder) {
    /// let builder = builder.keep_alive(std::time::Duration::from_secs(60));
    /// # }
    /// ```
    pub fn keep_alive(mut self, promise: Duration) -> Self {
        self.keep_alive = promise;
        self
    }

    /// Whether the hub shall forget what this device subscribed to before. Default no.
    ///
    /// ```no_run
    /// # fn example(builder: ostler_device_sdk::Builder) {
    /// let builder = builder.clean_session(true);
    /// # }
    /// ```
    pub fn clean_session(mut self, clean: bool) -> Self {
        self.clean_session = clean;
        self
    }

    /// How long tokens made of the key are good for; they are renewed in time. Default 1 h.
    ///
    /// ```no_run
    /// # fn example(builder: ostler_device_sdk::Builder) {
    /// let builder = builder.token_lifetime(std::time::Duration::from_secs(24 * 3600));
    /// # }
    /// ```
    pub fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.token_lifetime = lifetime;
        self
    }

    /// When to try again. Can be changed later, by [`Client::set_retry`].
    ///
    /// ```no_run
    /// # fn example(builder: ostler_device_sdk::Builder) {
    /// let builder = builder.retry(ostler_device_sdk::RetryPolicy::none());
    /// # }
    /// ```
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// How much may wait to be sent or confirmed.
    ///
    /// ```no_run
    /// # fn example(builder: ostler_device_sdk::Builder) {
    /// let builder = builder.queue(ostler_device_sdk::QueueLimits { messages: 100, bytes: 1 << 20 });
    /// # }
    /// ```
    pub fn queue(mut self, limits: QueueLimits) -> Self {
        self.queue = limits;
        self
    }

    /// How long twin operations may take, waiting for a connection included. Default 60 s. Messages have
    /// [`Message::timeout`](crate::Message::timeout).
    ///
    /// ```no_run
    /// # fn example(builder: ostler_device_sdk::Builder) {
    /// let builder = builder.operation_timeout(std::time::Duration::from_secs(10));
    /// # }
    /// ```
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.operation_timeout = timeout;
        self
    }

    /// When the whole twin comes to [`Client::desired`].
    ///
    /// ```no_run
    /// # fn example(builder: ostler_device_sdk::Builder) {
    /// let builder = builder.twin_sync(ostler_device_sdk::TwinSync::EveryConnect);
    /// # }
    /// ```
    pub fn twin_sync(mut self, sync: TwinSync) -> Self {
        self.twin_sync = sync;
        self
    }

    /// Speaks without TLS, to a hub on this machine only.
    ///
    /// ```no_run
    /// # fn example(builder: ostler_device_sdk::Builder) {
    /// let builder = builder.plain();
    /// # }
    /// ```
    pub fn plain(mut self) -> Self {
        self.plain = true;
        self
    }

    /// The tokio runtime that the client's task and its handlers run on. Default the one that `build` is called in.
    ///
    /// ```no_run
    /// # fn example(builder: ostler_device_sdk::Builder) {
    /// let builder = builder.runtime(tokio::runtime::Handle::current());
    /// # }
    /// ```
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Checks everything and makes the client. Nothing is connected yet: the first operation that needs the hub does
    /// that, or [`Client::connect`].
    ///
    /// # Errors
    /// [`SetupError`] says which setting is wrong.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let connection = "HostName=hub.example.net;DeviceId=pump-7;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==".parse()?;
    /// let client = ostler_device_sdk::Client::builder(connection).build();
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn build(self) -> Result<Client, SetupError> {
        self.check()?;
        let runtime = match self.runtime.clone() {
            Some(runtime) => runtime,
            None => Handle::try_current().map_err(|_| SetupError::NoRuntime)?,
        };
        let entity = self.connection.entity().clone();
        let seed: [u8; 9] = random();
        let mut settings = Settings::new(entity);
        settings.keep_alive_secs = u16::try_from(self.keep_alive.as_secs()).unwrap_or(u16::MAX);
        settings.clean_session = self.clean_session;
        settings.retry = self.retry.clone();
        settings.queue = self.queue;
        settings.twin_sync = self.twin_sync;
        settings.seed = seed[1..].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let identity = match &self.certificate {
            None => None,
            Some((chain, key)) => Some(Identity::from_pem(chain, key)?),
        };
        let tls = match self.plain {
            true => None,
            false => Some(client_config(&self.trust, identity.as_ref())?),
        };
        let route = Route {
            host: self.connection.dial_host().to_owned(),
            port: self.port(),
            tls,
            plain_anywhere: false,
            websocket: self.protocol == Protocol::MqttWebSocket,
            proxy: self.proxy.clone(),
        };
        let credential = Arc::new(Credential::new(&self.connection, self.token_lifetime, seed[0]));
        Ok(Client::new(Inner::new(Parts {
            engine: Engine::new(settings),
            #[cfg(feature = "http")]
            https: self.https(&route, credential.clone()),
            route,
            username: self.username(),
            credential,
            runtime,
            operation_timeout: self.operation_timeout,
        })))
    }

    fn port(&self) -> u16 {
        match self.protocol {
            Protocol::MqttWebSocket => self.web_port(),
            Protocol::Mqtt => self.mqtt_port.unwrap_or(if self.plain { PLAIN_MQTT_PORT } else { MQTT_PORT }),
        }
    }

    fn web_port(&self) -> u16 {
        self.https_port.or(self.connection.port()).unwrap_or(HTTPS_PORT)
    }

    fn client_type(&self) -> String {
        match &self.product_info {
            None => OWN_NAME.to_owned(),
            Some(product) => format!("{product} {OWN_NAME}"),
        }
    }

    pub(crate) fn username(&self) -> String {
        Username {
            host: self.connection.host(),
            entity: self.connection.entity().as_str(),
            api_version: Some(self.api_version.as_str().into()),
            model_id: self.model_id.as_deref().map(Into::into),
            client_type: Some(self.client_type().into()),
        }
        .to_string()
    }

    fn check(&self) -> Result<(), SetupError> {
        let wrong = |name, why: String| Err(SetupError::Setting { name, why });
        if self.connection.is_x509() && self.certificate.is_none() {
            return Err(SetupError::CertificateMissing);
        }
        if self.keep_alive > LONGEST_KEEP_ALIVE {
            return wrong("keep_alive", format!("hubs take at most {} s", LONGEST_KEEP_ALIVE.as_secs()));
        }
        if !self.keep_alive.is_zero() && self.keep_alive < Duration::from_secs(1) {
            return wrong("keep_alive", "it is counted in seconds; zero is for none".to_owned());
        }
        if !(SHORTEST_LIFETIME..=LONGEST_LIFETIME).contains(&self.token_lifetime) {
            return wrong("token_lifetime", "it must be between 2 s and 366 days".to_owned());
        }
        let texts = [
            ("product_info", self.product_info.as_deref()),
            ("model_id", self.model_id.as_deref()),
            ("api_version", Some(self.api_version.as_str())),
        ];
        for (name, text) in texts {
            let text = text.unwrap_or("-");
            if text.is_empty() || text.len() > MAX_TEXT_BYTES || text.chars().any(char::is_control) {
                return wrong(
                    name,
                    format!("it must have 1 to {MAX_TEXT_BYTES} bytes and no control characters"),
                );
            }
        }
        if self.queue.messages == 0 || self.queue.bytes == 0 {
            return wrong("queue", "nothing could ever be sent".to_owned());
        }
        if self.plain && self.proxy.is_some() {
            return wrong(
                "plain",
                "a plain connection stays on this machine and cannot go through a proxy".to_owned(),
            );
        }
        if self.protocol == Protocol::MqttWebSocket && cfg!(not(feature = "websocket")) {
            return wrong("protocol", "this program was built without the feature `websocket`".to_owned());
        }
        Ok(())
    }

    #[cfg(feature = "http")]
    fn https(&self, route: &Route, credential: Arc<Credential>) -> crate::http::Https {
        crate::http::Https::new(Arc::new(crate::http::Shared {
            hub: Route { port: self.web_port(), websocket: false, ..route.clone() },
            hub_name: self.connection.host().to_owned(),
            credential,
            // A plain client may do without; its requests to other hosts then say what is missing.
            tls: client_config(&self.trust, None).ok(),
            user_agent: self.client_type(),
        }))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("connection", &self.connection)
            .field("protocol", &self.protocol)
            .field("plain", &self.plain)
            .finish_non_exhaustive()
    }
}
