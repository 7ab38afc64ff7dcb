//! A hub with a few devices, and a device client that says what it sees.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ostler_core::id::EntityId;
use ostler_core::identity::SymmetricKey;
use ostler_core::method::{MethodAnswer, MethodCall, MethodName};
use ostler_core::sas;
use ostler_core::time::Timestamp;
use ostler_hub::events::EventKind;
use ostler_hub::{Error, Hub, IfMatch};
use ostler_server::config::{Config, Settings};
use ostler_server::{Running, Server};
use ostler_wire::mqtt::client::{Answer, Connecting, Event, Limits, Session};
use ostler_wire::mqtt::packet::{Connect, Login, PacketId, QoS, Refusal, SubscribeOutcome, Will};
use ostler_wire::mqtt::Attempt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::TlsConnector;

pub const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
pub const OTHER_KEY: &str = "//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA=";
const SEED: &str = r#"{"devices": [
    {"id": "pump-7", "authentication": {"symmetricKey": {"primaryKey": "KEY", "secondaryKey": "OTHER"}}},
    {"id": "pump-7", "moduleId": "valve", "authentication": {"symmetricKey": {"primaryKey": "KEY", "secondaryKey": "KEY"}}},
    {"id": "off", "status": "disabled", "authentication": {"symmetricKey": {"primaryKey": "KEY", "secondaryKey": "KEY"}}},
    {"id": "ca-device", "authentication": {"type": "certificateAuthority"}}
]}"#;
/// Longer than any honest wait, short enough for a broken test.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A running hub with the devices of the seed.
pub struct TestHub {
    pub running: Running,
    _folder: tempfile::TempDir,
}

impl TestHub {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let seed = folder.path().join("seed.json");
        std::fs::write(&seed, SEED.replace("KEY", KEY).replace("OTHER", OTHER_KEY)).unwrap();
        let mut all = vec![("ephemeral", "true"), ("seed", seed.to_str().unwrap())];
        all.extend(settings);
        Self { running: Server::start(config(&all)).await.unwrap(), _folder: folder }
    }

    /// On a data folder, so that it can be started again.
    pub async fn on(data: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let seed = folder.path().join("seed.json");
        std::fs::write(&seed, SEED.replace("KEY", KEY).replace("OTHER", OTHER_KEY)).unwrap();
        let all = [("data", data.to_str().unwrap()), ("seed", seed.to_str().unwrap())];
        Self { running: Server::start(config(&all)).await.unwrap(), _folder: folder }
    }

    pub fn hub(&self) -> &Arc<Hub> {
        &self.running.app().hub
    }

    pub async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.running.addresses().plain_mqtt.unwrap()).await.unwrap()
    }

    pub async fn tls(
        &self,
        identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> TlsStream<TcpStream> {
        self.tls_with(identity, &[&rustls::version::TLS13]).await
    }

    pub async fn tls_with(
        &self,
        identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.running.ca_pem().unwrap().as_bytes()).unwrap())
            .unwrap();
        let builder =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_protocol_versions(versions)
                .unwrap()
                .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                // Not by `with_client_auth_cert`, which refuses X.509 version 1 on its own side.
                let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
                let certified = rustls::sign::CertifiedKey::new(chain, key);
                builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)))
            }
        };
        let stream = TcpStream::connect(self.running.addresses().mqtt).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    /// Signs `id` in over plain TCP.
    pub async fn device(&self, id: &str) -> Client<TcpStream> {
        Client::connect(self.tcp().await, &Hello::new(id)).await.unwrap()
    }

    pub fn id(text: &str) -> EntityId {
        EntityId::parse(text).unwrap()
    }

    pub async fn patch_desired(&self, id: &str, desired: &str) {
        let body = format!(r#"{{"properties": {{"desired": {desired}}}}}"#);
        let patch = ostler_wire::rest::twin::read_patch(body.as_bytes()).unwrap();
        self.hub().patch_twin(&Self::id(id), &IfMatch::Any, &patch).await.unwrap();
    }

    pub async fn reported(&self, id: &str) -> String {
        let view = self.hub().twin(&Self::id(id)).await.unwrap();
        let mut text = Vec::new();
        view.record.twin.reported.write_values(&mut text);
        String::from_utf8(text).unwrap()
    }

    /// Invokes a method in a task of its own.
    pub fn invoke(
        &self,
        id: &str,
        name: &str,
        payload: &str,
    ) -> tokio::task::JoinHandle<Result<MethodAnswer, Error>> {
        let (hub, id) = (self.hub().clone(), Self::id(id));
        let call = MethodCall {
            name: MethodName::new(name).unwrap(),
            payload: payload.as_bytes().into(),
            response_timeout: PATIENCE,
            connect_timeout: Duration::ZERO,
        };
        tokio::spawn(async move { hub.invoke(&id, call).await })
    }

    /// Waits until an event of a group comes.
    pub async fn event(
        &self,
        events: &mut tokio::sync::broadcast::Receiver<Arc<ostler_hub::events::Event>>,
        group: &str,
    ) -> EventKind {
        loop {
            let event = tokio::time::timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
            if event.kind.group() == group {
                return event.kind.clone();
            }
        }
    }
}

pub fn config(settings: &[(&str, &str)]) -> Config {
    let defaults = [("bind", "127.0.0.1"), ("mqtt-port", "0"), ("https-port", "0"), ("plain-mqtt-port", "0")];
    let mut all = Settings::new();
    for (name, value) in defaults.iter().chain(settings) {
        all.set(name, *value).unwrap();
    }
    Config::from_settings(&all).unwrap()
}

/// A token that ends in this many seconds.
pub fn token(resource: &str, key: &str, ttl_secs: i64, policy: Option<&str>) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let expires = Timestamp::from_unix_secs(i64::try_from(now).unwrap() + ttl_secs);
    sas::sign(resource, &SymmetricKey::from_base64(key).unwrap(), expires, policy)
}

/// What a client says at CONNECT.
pub struct Hello {
    pub client_id: String,
    pub username: Option<String>,
    pub password: Option<String>,
    pub clean_session: bool,
    pub keep_alive_secs: u16,
    pub will: Option<(String, Vec<u8>)>,
}

impl Hello {
    /// As an SDK would, with the device's own key.
    pub fn new(id: &str) -> Self {
        let resource = match id.split_once('/') {
            None => format!("localhost/devices/{id}"),
            Some((device, module)) => format!("localhost/devices/{device}/modules/{module}"),
        };
        Self {
            client_id: id.to_owned(),
            username: Some(format!("localhost/{id}/?api-version=2021-04-12")),
            password: Some(token(&resource, KEY, 3600, None)),
            clean_session: true,
            keep_alive_secs: 60,
            will: None,
        }
    }

    pub fn persistent(id: &str) -> Self {
        Self { clean_session: false, ..Self::new(id) }
    }
}

/// What a client saw.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    Message { topic: String, payload: String },
    Acked(u16),
    Subscribed(Vec<SubscribeOutcome>),
    Unsubscribed,
    Closed,
}

impl Seen {
    pub fn message(self) -> (String, String) {
        match self {
            Seen::Message { topic, payload } => (topic, payload),
            other => panic!("no message but {other:?}"),
        }
    }
}

/// A signed-in client.
pub struct Client<Io> {
    io: Io,
    session: Session,
    pub session_present: bool,
    input: Vec<u8>,
    seen: VecDeque<Seen>,
    /// Leaves messages unacknowledged.
    pub mute: bool,
    /// Which messages came as duplicates, in order.
    pub dups: Vec<bool>,
}

/// Why there is no client.
#[derive(Debug, PartialEq, Eq)]
pub enum NotIn {
    Refused(Refusal),
    Closed,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Client<Io> {
    pub async fn connect(mut io: Io, hello: &Hello) -> Result<Self, NotIn> {
        let login = hello
            .username
            .as_deref()
            .map(|username| Login { username, password: hello.password.as_deref().map(str::as_bytes) });
        let will = hello.will.as_ref().map(|(topic, payload)| Will {
            topic,
            payload,
            qos: QoS::AtLeastOnce,
            retain: false,
        });
        let connect = Connect {
            client_id: &hello.client_id,
            clean_session: hello.clean_session,
            keep_alive_secs: hello.keep_alive_secs,
            will,
            login,
        };
        let mut out = Vec::new();
        let connecting = Connecting::start(&connect, Limits::default(), 0, &mut out).unwrap();
        io.write_all(&out).await.map_err(|_| NotIn::Closed)?;
        let mut input = Vec::new();
        loop {
            let mut rest = input.as_slice();
            match connecting.next(&mut rest, 0).unwrap() {
                Some(Answer::Refused(refusal)) => return Err(NotIn::Refused(refusal)),
                Some(Answer::Accepted { session, session_present }) => {
                    let input = rest.to_vec();
                    return Ok(Self {
                        io,
                        session,
                        session_present,
                        input,
                        seen: VecDeque::new(),
                        mute: false,
                        dups: Vec::new(),
                    });
                }
                None => {}
            }
            if read(&mut io, &mut input).await.unwrap_or(0) == 0 {
                return Err(NotIn::Closed);
            }
        }
    }

    /// The next thing that happens.
    pub async fn next(&mut self) -> Seen {
        loop {
            if let Some(seen) = self.seen.pop_front() {
                return seen;
            }
            let mut out = Vec::new();
            let mut rest = self.input.as_slice();
            while let Some(event) = self.session.next(&mut rest).unwrap() {
                match event {
                    Event::Message(message) => {
                        self.seen.push_back(Seen::Message {
                            topic: message.topic.to_owned(),
                            payload: String::from_utf8_lossy(message.payload).into_owned(),
                        });
                        self.dups.push(message.dup);
                        if let Some(ticket) = message.ticket.filter(|_| !self.mute) {
                            self.session.ack(ticket, &mut out);
                        }
                    }
                    Event::Acked(id) => self.seen.push_back(Seen::Acked(id.get())),
                    Event::Subscribed(answer) => {
                        self.seen.push_back(Seen::Subscribed(answer.outcomes().collect()))
                    }
                    Event::Unsubscribed(_) => self.seen.push_back(Seen::Unsubscribed),
                }
            }
            self.input = rest.to_vec();
            let _ = self.io.write_all(&out).await;
            if self.seen.is_empty() && read(&mut self.io, &mut self.input).await.unwrap_or(0) == 0 {
                return Seen::Closed;
            }
        }
    }

    /// Publishes with QoS 1 and does not wait.
    pub async fn publish(&mut self, topic: &str, payload: &[u8]) -> PacketId {
        let mut out = Vec::new();
        let id = self.session.publish_acked(topic, payload, Attempt::First, &mut out).unwrap();
        self.io.write_all(&out).await.unwrap();
        id
    }

    /// Publishes with QoS 0.
    pub async fn publish_once(&mut self, topic: &str, payload: &[u8]) {
        let mut out = Vec::new();
        self.session.publish(topic, payload, &mut out).unwrap();
        self.io.write_all(&out).await.unwrap();
    }

    pub async fn subscribe(&mut self, filters: &[&str]) -> Vec<SubscribeOutcome> {
        let filters: Vec<_> = filters.iter().map(|filter| (*filter, QoS::AtLeastOnce)).collect();
        self.subscribe_with(&filters).await
    }

    pub async fn subscribe_with(&mut self, filters: &[(&str, QoS)]) -> Vec<SubscribeOutcome> {
        let mut out = Vec::new();
        self.session.subscribe(filters, &mut out).unwrap();
        self.io.write_all(&out).await.unwrap();
        match self.next().await {
            Seen::Subscribed(outcomes) => outcomes,
            other => panic!("no SUBACK but {other:?}"),
        }
    }

    pub async fn unsubscribe(&mut self, filters: &[&str]) {
        let mut out = Vec::new();
        self.session.unsubscribe(filters, &mut out).unwrap();
        self.io.write_all(&out).await.unwrap();
        assert_eq!(self.next().await, Seen::Unsubscribed);
    }

    pub async fn raw(&mut self, bytes: &[u8]) {
        let _ = self.io.write_all(bytes).await;
    }

    /// Says goodbye and waits until the hub has closed.
    pub async fn disconnect(self) {
        let (mut io, mut out) = (self.io, Vec::new());
        self.session.disconnect(&mut out);
        let _ = io.write_all(&out).await;
        assert_eq!(read(&mut io, &mut Vec::new()).await.unwrap_or(0), 0);
    }

    /// Goes away without a word.
    pub fn drop_silently(self) {}
}

async fn read(io: &mut (impl AsyncRead + Unpin), into: &mut Vec<u8>) -> io::Result<usize> {
    tokio::time::timeout(PATIENCE, io.read_buf(into)).await.expect("the hub says nothing")
}
