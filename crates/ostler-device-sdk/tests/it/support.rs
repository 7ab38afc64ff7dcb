//! A hub with a few devices, lines to it that can be cut, and a proxy.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ostler_core::id::EntityId;
use ostler_core::method::{MethodAnswer, MethodCall, MethodName};
use ostler_device_sdk::{Builder, Client, ConnectionStatus, RetryPolicy, StatusStream};
use ostler_hub::events::{Event, EventKind, Telemetry};
use ostler_hub::registry::{Action, Operation};
use ostler_hub::{Error, Hub, IfMatch};
use ostler_server::config::{Config, Settings};
use ostler_server::{Running, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::JoinSet;

pub const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
pub const OTHER_KEY: &str = "//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA=";
const SEED: &str = r#"{"devices": [
    {"id": "pump-7", "authentication": {"symmetricKey": {"primaryKey": "KEY", "secondaryKey": "KEY"}}},
    {"id": "pump-7", "moduleId": "valve", "authentication": {"symmetricKey": {"primaryKey": "KEY", "secondaryKey": "KEY"}}},
    {"id": "off", "status": "disabled", "authentication": {"symmetricKey": {"primaryKey": "KEY", "secondaryKey": "KEY"}}},
    {"id": "ca-device", "authentication": {"type": "certificateAuthority"}}
]}"#;
/// Longer than any honest wait, short enough for a broken test.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits no longer than [`PATIENCE`].
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

/// A running hub with the devices of the seed.
pub struct TestHub {
    pub running: Running,
    _folder: tempfile::TempDir,
}

impl TestHub {
    pub async fn start() -> Self {
        Self::with(&[("ephemeral", "true")]).await
    }

    /// On a data folder, so that it can be started again.
    pub async fn on(data: &Path) -> Self {
        Self::with(&[("data", data.to_str().unwrap())]).await
    }

    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let seed = folder.path().join("seed.json");
        std::fs::write(&seed, SEED.replace("KEY", KEY)).unwrap();
        let mut all = Settings::new();
        let defaults =
            [("bind", "127.0.0.1"), ("mqtt-port", "0"), ("https-port", "0"), ("plain-mqtt-port", "0")];
        for (name, value) in defaults.iter().chain(settings) {
            all.set(name, *value).unwrap();
        }
        all.set("seed", seed.to_str().unwrap()).unwrap();
        let running = Server::start(Config::from_settings(&all).unwrap()).await.unwrap();
        Self { running, _folder: folder }
    }

    pub fn hub(&self) -> &Arc<Hub> {
        &self.running.app().hub
    }

    pub fn connection(&self, id: &str) -> String {
        self.connection_with(id, &format!("SharedAccessKey={KEY}"))
    }

    pub fn connection_with(&self, id: &str, secret: &str) -> String {
        let port = self.running.addresses().https.port();
        let id = id.replace('/', ";ModuleId=");
        format!("HostName=localhost:{port};DeviceId={id};{secret}")
    }

    /// A client over TLS that trusts this hub and no other, and comes back fast.
    pub fn builder(&self, id: &str) -> Builder {
        self.builder_of(&self.connection(id))
    }

    pub fn builder_of(&self, connection: &str) -> Builder {
        Client::builder(connection.parse().unwrap())
            .mqtt_port(self.running.addresses().mqtt.port())
            .root_ca_pem(self.running.ca_pem().unwrap())
            .without_system_roots()
            .retry(hasty())
    }

    pub fn client(&self, id: &str) -> Client {
        self.builder(id).build().unwrap()
    }

    pub async fn enable(&self, id: &str) {
        let body = format!(
            r#"{{"deviceId": "{id}", "status": "enabled", "authentication": {{"symmetricKey":
                {{"primaryKey": "{KEY}", "secondaryKey": "{KEY}"}}}}}}"#
        );
        self.apply(id, Action::Update(IfMatch::Any), &body).await;
    }

    pub async fn apply(&self, id: &str, action: Action, body: &str) {
        let id = entity(id);
        let identity = ostler_wire::rest::identity::read_identity(&id, body.as_bytes()).unwrap();
        let operation = Operation { id, action, identity, twin: Default::default() };
        self.hub().apply(operation).await.unwrap();
    }

    pub async fn patch_desired(&self, id: &str, desired: &str) {
        let body = format!(r#"{{"properties": {{"desired": {desired}}}}}"#);
        let patch = ostler_wire::rest::twin::read_patch(body.as_bytes()).unwrap();
        self.hub().patch_twin(&entity(id), &IfMatch::Any, &patch).await.unwrap();
    }

    pub async fn reported(&self, id: &str) -> String {
        let view = self.hub().twin(&entity(id)).await.unwrap();
        let mut text = Vec::new();
        view.record.twin.reported.write_values(&mut text);
        let text = String::from_utf8(text).unwrap();
        let (values, _version) = text.rsplit_once(",\"$version\":").unwrap();
        format!("{values}}}")
    }

    pub async fn invoke(&self, id: &str, name: &str, payload: &str) -> Result<(i32, String), Error> {
        let call = MethodCall {
            name: MethodName::new(name).unwrap(),
            payload: payload.as_bytes().into(),
            response_timeout: PATIENCE,
            connect_timeout: PATIENCE,
        };
        let MethodAnswer { status, payload, .. } = self.hub().invoke(&entity(id), call).await?;
        Ok((status, String::from_utf8(payload.to_vec()).unwrap()))
    }

    pub fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.hub().events().subscribe()
    }
}

/// The next telemetry that the hub takes.
pub async fn telemetry(events: &mut broadcast::Receiver<Arc<Event>>) -> Telemetry {
    loop {
        if let EventKind::Telemetry(telemetry) = &soon(events.recv()).await.unwrap().kind {
            return telemetry.clone();
        }
    }
}

pub fn entity(id: &str) -> EntityId {
    EntityId::parse(id).unwrap()
}

/// Retries without waiting for long.
pub fn hasty() -> RetryPolicy {
    RetryPolicy {
        first_wait: Duration::from_millis(20),
        max_wait: Duration::from_millis(100),
        ..RetryPolicy::default()
    }
}

/// Waits for a status.
pub async fn until(
    changes: &mut StatusStream,
    wanted: impl Fn(ConnectionStatus) -> bool,
) -> ConnectionStatus {
    loop {
        let status = soon(changes.next()).await.expect("the client is over");
        if wanted(status) {
            return status;
        }
    }
}

/// A line to a hub that can be cut, and laid anew to another hub.
pub struct Line {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _accepting: JoinSet<()>,
}

struct Shared {
    target: Mutex<Option<SocketAddr>>,
    open: Mutex<JoinSet<()>>,
    made: AtomicUsize,
}

impl Line {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: Mutex::new(Some(target)),
            open: Mutex::new(JoinSet::new()),
            made: AtomicUsize::new(0),
        });
        let mut accepting = JoinSet::new();
        let own = shared.clone();
        accepting.spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let target = *own.target.lock().unwrap();
                let Some(target) = target else { continue };
                own.made.fetch_add(1, Ordering::SeqCst);
                own.open.lock().unwrap().spawn(async move {
                    if let Ok(mut far) = TcpStream::connect(target).await {
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        });
        Self { address, shared, _accepting: accepting }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Breaks what is open.
    pub fn cut(&self) {
        self.shared.open.lock().unwrap().abort_all();
    }

    /// Breaks what is open, and what comes until [`Line::mend`].
    pub fn cut_for_good(&self) {
        *self.shared.target.lock().unwrap() = None;
        self.cut();
    }

    pub fn mend(&self, target: SocketAddr) {
        *self.shared.target.lock().unwrap() = Some(target);
    }

    /// How many connections came.
    pub fn made(&self) -> usize {
        self.shared.made.load(Ordering::SeqCst)
    }
}

/// A proxy that connects by CONNECT, and what it was asked.
pub struct TestProxy {
    pub address: SocketAddr,
    pub asked: Arc<Mutex<Vec<String>>>,
    _accepting: JoinSet<()>,
}

impl TestProxy {
    /// `login` is what `Proxy-Authorization` must say.
    pub async fn start(login: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let mut accepting = JoinSet::new();
        let log = asked.clone();
        accepting.spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                tokio::spawn(through(near, login, log.clone()));
            }
        });
        Self { address, asked, _accepting: accepting }
    }
}

async fn through(mut near: TcpStream, login: Option<&str>, log: Arc<Mutex<Vec<String>>>) {
    let head = read_head(&mut near).await;
    let first = head.lines().next().unwrap_or_default().to_owned();
    log.lock().unwrap().push(first.clone());
    if let Some(login) = login {
        if !head.contains(&format!("Proxy-Authorization: {login}\r\n")) {
            let _ = near.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
            return;
        }
    }
    let target = first.split(' ').nth(1).unwrap_or_default().replace("localhost", "127.0.0.1");
    let mut far = TcpStream::connect(target).await.unwrap();
    near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
}

/// Reads to the empty line.
pub async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}
