//! Where everything is put together, once, in the order in which it depends on each other:
//! store, hub, certificates, seed, listeners, ready-file. And taken apart again.
//!
//! Invariant: when [`Server::start`] returns, every listener accepts; when it fails, nothing of it
//! is left running.
//! Invariant: the data folder is locked before anything in it is read or written.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ostler_hub::files::FileOptions;
use ostler_hub::{Hub, Options};
use ostler_store::{Embedded, OpenError, Store};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::server::TlsStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{App, Authorities};
use crate::config::{Bind, CertificateSource, Config, Data, Limits};
use crate::files::create_private_folder;
use crate::listen::{self, Accepted, BindError, Fallback, Gate};
use crate::mqtt;
use crate::ops::Metrics;
use crate::peer::{Peer, Transport};
use crate::ready::{Ready, ReadyFiles, TemporaryFile, HUB_FILE};
use crate::rest;
use crate::seed::{self, SeedError};
use crate::timers::Timers;
use crate::tls::authority::{certificate_names, CA_FILE};
use crate::tls::client_certificate::ClientChain;
use crate::tls::{Renewal, Tls, TlsError};

/// The store's folder inside the data folder.
pub(crate) const STORE_FOLDER: &str = "store";
/// The folder of uploaded files inside the data folder.
pub(crate) const FILES_FOLDER: &str = "files";
/// The policy whose connection string tools are given.
const OWNER: &str = "iothubowner";
/// How often certificates are looked after.
const RENEWAL_CHECK: Duration = Duration::from_secs(600);
/// How long devices get to be told that the hub stops.
const GOODBYE: Duration = Duration::from_secs(2);

/// The hub does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be made.
    #[error("cannot make the data folder {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store in the data folder cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The hub cannot read or write its own settings.
    #[error("the hub cannot read or write its store: {0}")]
    Hub(#[from] ostler_hub::Error),
    /// There is no certificate to present.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The seed file cannot be loaded.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// A listener cannot be opened.
    #[error(transparent)]
    Listen(#[from] BindError),
    /// The ready-file, `hub.json` or the CA file cannot be written.
    #[error("cannot write {}", path.display())]
    Ready {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Starts hubs.
#[derive(Debug)]
pub struct Server;

/// The addresses of the listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// MQTT over TLS.
    pub mqtt: SocketAddr,
    /// HTTPS.
    pub https: SocketAddr,
    /// MQTT without TLS.
    pub plain_mqtt: Option<SocketAddr>,
    /// HTTP without TLS.
    pub plain_http: Option<SocketAddr>,
}

/// A hub that serves.
pub struct Running {
    app: Arc<App>,
    addresses: Addresses,
    https_fallback: Option<Fallback>,
    ready: Ready,
    doors: JoinSet<()>,
    http: TaskTracker,
    _files: ReadyFiles,
    _ca_file: Option<TemporaryFile>,
}

impl Server {
    /// Starts a hub on the current runtime.
    ///
    /// # Errors
    /// [`StartError`] says what is in the way.
    pub async fn start(config: Config) -> Result<Running, StartError> {
        let store = open_store(config.data.clone(), &config.limits).await?;
        let hub = Hub::open(store, hub_options(&config)).await?;
        let tls = Tls::open(&config, SystemTime::now())?;
        if let Some(path) = &config.seed {
            seed::load(&hub, path).await?;
        }
        let doors = listen::open(&config.listen)?;
        let addresses = addresses(&doors);
        let https_fallback = doors.https_fallback.clone();
        let app = Arc::new(App {
            gate: Gate::new(&config.limits),
            timers: Timers::start(),
            stopping: CancellationToken::new(),
            mqtt: mqtt::Counters::default(),
            authorities: Authorities::default(),
            started: Instant::now(),
            metrics: Metrics::default(),
            hub,
            tls,
            config,
        });
        let (ca_path, ca_file) = ca_file(&app)?;
        let ready = ready(&app, &addresses, ca_path)?;
        let http = TaskTracker::new();
        let tasks = open_doors(&app, doors, &http);
        let files = write_ready_files(&app.config, &ready)?;
        Ok(Running {
            app,
            addresses,
            https_fallback,
            ready,
            doors: tasks,
            http,
            _files: files,
            _ca_file: ca_file,
        })
    }
}

/// Off the runtime's threads: a large store is read for seconds.
async fn open_store(data: Data, limits: &Limits) -> Result<Arc<dyn Store>, StartError> {
    let options = ostler_store::Options { column_bytes: limits.query_columns, ..Default::default() };
    let open = move || -> Result<Arc<dyn Store>, StartError> {
        let Data::Folder(folder) = data else { return Ok(Arc::new(Embedded::in_memory_with(&options))) };
        create_private_folder(&folder)
            .map_err(|source| StartError::Folder { path: folder.clone(), source })?;
        Ok(Arc::new(Embedded::open(&folder.join(STORE_FOLDER), &options)?))
    };
    tokio::task::spawn_blocking(open).await.expect("nobody cancels it, and a panic in it is a bug to be seen")
}

fn hub_options(config: &Config) -> Options {
    let limits = &config.limits;
    Options {
        // What the certificate says, clients may say: every name on it is this hub.
        host_names: certificate_names(config.names(), bind_address(config)),
        skew_secs: i64::try_from(limits.clock_skew.as_secs()).unwrap_or(i64::MAX),
        sign_in_failures: (limits.sign_in_failure_burst, limits.sign_in_failure_rate),
        job_retention_days: limits.job_retention.as_secs() / (24 * 3600),
        message_ttl_secs: i64::try_from(limits.message_ttl.as_secs()).unwrap_or(i64::MAX),
        message_deliveries: limits.message_deliveries,
        dialect: config.compat.dialect(),
        files: file_options(config),
        ..Options::default()
    }
}

fn file_options(config: &Config) -> FileOptions {
    let limits = &config.limits;
    let secs = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    FileOptions {
        folder: match &config.data {
            Data::Folder(folder) => Some(folder.join(FILES_FOLDER)),
            Data::Memory => None,
        },
        total_bytes: limits.files_total,
        file_bytes: limits.file_size,
        spared_bytes: limits.file_disk_reserve,
        upload_secs: secs(limits.file_upload_lifetime),
        keep_secs: Some(secs(limits.file_retention)).filter(|secs| *secs > 0),
    }
}

fn bind_address(config: &Config) -> Option<std::net::IpAddr> {
    match config.listen.bind {
        Bind::All => None,
        Bind::Address(address) => Some(address),
    }
}

fn addresses(doors: &listen::Doors) -> Addresses {
    let of = |listener: &TcpListener| listener.local_addr().expect("a bound listener has an address");
    Addresses {
        mqtt: of(&doors.mqtt),
        https: of(&doors.https),
        plain_mqtt: doors.plain_mqtt.as_ref().map(of),
        plain_http: doors.plain_http.as_ref().map(of),
    }
}

/// Where clients find the CA; in memory mode a file is made for them.
fn ca_file(app: &App) -> Result<(Option<PathBuf>, Option<TemporaryFile>), StartError> {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match (&app.config.tls.source, &app.config.data) {
        (CertificateSource::GivenCa { certificate, .. }, _) => Ok((Some(absolute(certificate)), None)),
        (CertificateSource::Given { ca, .. }, _) => Ok((ca.as_deref().map(absolute), None)),
        (CertificateSource::OwnCa, Data::Folder(folder)) => Ok((Some(absolute(&folder.join(CA_FILE))), None)),
        (CertificateSource::OwnCa, Data::Memory) => {
            let pem = app.tls.ca_pem().unwrap_or_default();
            let file = TemporaryFile::write(CA_FILE, pem.as_bytes())
                .map_err(|source| StartError::Ready { path: std::env::temp_dir().join(CA_FILE), source })?;
            Ok((Some(file.path().to_owned()), Some(file)))
        }
    }
}

fn ready(app: &App, addresses: &Addresses, ca_file: Option<PathBuf>) -> Result<Ready, StartError> {
    let owner = app.hub.policy(OWNER)?;
    let hostname = app.config.hostname.clone();
    let data_dir = match &app.config.data {
        Data::Folder(folder) => Some(std::path::absolute(folder).unwrap_or_else(|_| folder.clone())),
        Data::Memory => None,
    };
    Ok(Ready {
        mqtt_port: addresses.mqtt.port(),
        https_port: addresses.https.port(),
        plain_mqtt_port: addresses.plain_mqtt.map(|address| address.port()),
        plain_http_port: addresses.plain_http.map(|address| address.port()),
        ca_file,
        data_dir,
        pid: std::process::id(),
        connection_string: format!(
            "HostName={hostname};SharedAccessKeyName={OWNER};SharedAccessKey={}",
            owner.primary.to_base64()
        ),
        hostname,
    })
}

fn write_ready_files(config: &Config, ready: &Ready) -> Result<ReadyFiles, StartError> {
    let hub_file = match &config.data {
        Data::Folder(folder) => Some(folder.join(HUB_FILE)),
        Data::Memory => None,
    };
    let paths = hub_file.as_deref().into_iter().chain(config.ready_file.as_deref());
    ReadyFiles::write(ready, paths).map_err(|(path, source)| StartError::Ready { path, source })
}

/// Starts the accept loops and what looks after certificates.
fn open_doors(app: &Arc<App>, doors: listen::Doors, http: &TaskTracker) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let (gate, stop) = (&app.gate, &app.stopping);
    let mqtt_app = app.clone();
    tasks.spawn(listen::accept(doors.mqtt, gate.clone(), stop.clone(), move |accepted| {
        tokio::spawn(mqtt_tls(mqtt_app.clone(), accepted)).abort_handle()
    }));
    let (https_app, tracker) = (app.clone(), http.clone());
    tasks.spawn(listen::accept(doors.https, gate.clone(), stop.clone(), move |accepted| {
        tracker.spawn(https(https_app.clone(), accepted)).abort_handle()
    }));
    if let Some(listener) = doors.plain_mqtt {
        let app = app.clone();
        tasks.spawn(listen::accept(listener, gate.clone(), stop.clone(), move |accepted| {
            plain_mqtt(&app, accepted)
        }));
    }
    if let Some(listener) = doors.plain_http {
        let (app, tracker) = (app.clone(), http.clone());
        tasks.spawn(listen::accept(listener, gate.clone(), stop.clone(), move |accepted| {
            tracker.spawn(plain_http(app.clone(), accepted)).abort_handle()
        }));
    }
    tasks.spawn(renew_certificates(app.clone()));
    tasks
}

/// The handshake has a task of its own, so that its memory goes when it is over.
async fn mqtt_tls(app: Arc<App>, accepted: Accepted) {
    if let Some((stream, peer)) = handshake(&app, app.tls.mqtt(), accepted, Transport::Mqtt).await {
        mqtt::serve(app, stream, peer);
    }
}

fn plain_mqtt(app: &Arc<App>, accepted: Accepted) -> AbortHandle {
    let Accepted { stream, address, place } = accepted;
    mqtt::serve(app.clone(), stream, Peer::new(address, Transport::PlainMqtt, None, Some(place)))
}

async fn https(app: Arc<App>, accepted: Accepted) {
    if let Some((stream, peer)) = handshake(&app, app.tls.https(), accepted, Transport::Https).await {
        rest::serve_connection(app, stream, peer).await;
    }
}

async fn plain_http(app: Arc<App>, accepted: Accepted) {
    let Accepted { stream, address, place } = accepted;
    let peer = Peer::new(address, Transport::PlainHttp, None, Some(place));
    rest::serve_connection(app, stream, peer).await;
}

/// Ends TLS. A client that sends nothing costs no TLS state.
async fn handshake(
    app: &App,
    config: Arc<rustls::ServerConfig>,
    accepted: Accepted,
    transport: Transport,
) -> Option<(TlsStream<TcpStream>, Peer)> {
    let Accepted { stream, address, place } = accepted;
    let shake = async {
        stream.readable().await?;
        Box::pin(TlsAcceptor::from(config).accept(stream)).await
    };
    let stream = match tokio::time::timeout(app.config.limits.tls_handshake_timeout, shake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(peer = %address, %error, "TLS handshake failed");
            return None;
        }
        Err(_) => {
            tracing::debug!(peer = %address, "TLS handshake timed out");
            return None;
        }
    };
    let chain = ClientChain::from_handshake(stream.get_ref().1.peer_certificates());
    Some((stream, Peer::new(address, transport, chain, Some(place))))
}

async fn renew_certificates(app: Arc<App>) {
    loop {
        if app.tls.not_after() <= SystemTime::now() {
            tracing::error!(
                "the server certificate has expired: clients will refuse it until it is replaced"
            );
        }
        // By the wall clock, looked at often: the machine may sleep or be set right meanwhile.
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = tokio::time::sleep(RENEWAL_CHECK) => {}
        }
        match app.tls.renew_if_due(SystemTime::now()) {
            Ok(Renewal::NotDue) => {}
            Ok(Renewal::Renewed) => tracing::info!("the server certificate was renewed"),
            Err(error) => {
                tracing::error!(%error, "the server certificate cannot be renewed; the old one stays in use")
            }
        }
    }
}

impl Running {
    /// What the front ends share.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Where the listeners listen.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Set if HTTPS could not have port 443, and why.
    pub fn https_fallback(&self) -> Option<&Fallback> {
        self.https_fallback.as_ref()
    }

    /// Names, ports, files and the owner's connection string, as in the ready-file.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The CA that clients must trust, PEM; `None` if they know it by themselves.
    pub fn ca_pem(&self) -> Option<&str> {
        self.app.tls.ca_pem()
    }

    /// Stops within the configured drain timeout.
    pub async fn stop(self) {
        let deadline = self.app.config.drain_timeout;
        self.drain(deadline).await;
    }

    /// Stops: no new connections, what runs may finish until the deadline, then devices are
    /// disconnected and the store is written out, which has no deadline.
    pub async fn drain(mut self, deadline: Duration) {
        let started = Instant::now();
        self.app.stopping.cancel();
        while self.doors.join_next().await.is_some() {}
        self.app.gate.close_half_open();
        // Devices stay until then: a method call in flight still wants its answer.
        self.http.close();
        let calls = async { tokio::join!(self.http.wait(), self.app.hub.drain_jobs()) };
        if tokio::time::timeout(deadline, calls).await.is_err() {
            tracing::warn!(
                left = self.http.len(),
                "HTTP requests or jobs were cut off by the drain deadline"
            );
        }
        self.app.hub.end_all_sessions();
        if tokio::time::timeout(GOODBYE, self.app.gate.all_gone()).await.is_err() {
            tracing::warn!(left = self.app.gate.connections(), "connections were cut off");
        }
        self.app.hub.store().close().await;
        tracing::info!(took_ms = started.elapsed().as_millis() as u64, "stopped");
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}
