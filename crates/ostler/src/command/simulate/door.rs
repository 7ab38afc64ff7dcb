//! The hub's MQTT door as the devices find it: addresses, TLS, sign-in, and one connection made through it.
//!
//! Must not know: what devices do once they are connected.
//!
//! Invariant: making a connection ends within [`PATIENCE`].

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ostler_core::id::EntityId;
use ostler_core::identity::SymmetricKey;
use ostler_core::sas;
use ostler_core::time::Timestamp;
use ostler_wire::mqtt::client::{Answer, Connecting, Limits, Session};
use ostler_wire::mqtt::packet::{Connect, Login, Refusal};
use ostler_wire::username::Username;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::TlsConnector;

use super::counters::Cause;
use crate::exit::{Exit, Failure, Result};
use crate::hub::{HubOptions, Target};

/// How long dialling, TLS and sign-in may take together.
const PATIENCE: Duration = Duration::from_secs(30);
const TOKEN_LIFETIME_SECS: i64 = 86_400;
const API_VERSION: &str = "2021-04-12";
const MQTT_TLS_PORT: u16 = 8883;
/// Connections from one loopback address to one port of the hub: the usual range of ephemeral ports holds 28,000.
const PER_SOURCE: u64 = 20_000;

/// Flags about how the hub's MQTT door is reached.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Connections")]
pub struct DoorOptions {
    /// Speak MQTT without TLS, to a hub on this machine that has a plain port
    #[arg(long)]
    pub plain: bool,
    /// The hub's MQTT port, if it is not the one its data folder tells, or 8883
    #[arg(long, value_name = "PORT")]
    pub mqtt_port: Option<u16>,
    /// Connect from this address, may be repeated; without it the system chooses, and for a hub on this machine several
    /// loopback addresses are used when one has too few ports
    #[arg(long = "source", value_name = "ADDRESS")]
    pub sources: Vec<IpAddr>,
}

/// How devices get in.
pub struct Door {
    /// The hub's name, in user names and tokens.
    pub hostname: String,
    address: SocketAddr,
    sources: Vec<IpAddr>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    keep_alive_secs: u16,
    clean_session: bool,
    model_id: Option<String>,
}

/// What devices announce at sign-in.
pub struct SignIn<'a> {
    pub keep_alive_secs: u16,
    pub clean_session: bool,
    pub model_id: Option<&'a str>,
    pub resume_tls: bool,
}

impl Door {
    /// Finds the door and tries it once, so that a hub that is not there is told at once.
    pub async fn find(
        hub: &HubOptions,
        options: &DoorOptions,
        devices: u64,
        sign_in: SignIn<'_>,
    ) -> Result<Self> {
        let target = hub.target()?;
        let (host, port) = host_and_port(&target, options)?;
        let address = reachable(&host, port).await?;
        if options.plain && !address.ip().is_loopback() {
            let text = format!("--plain would send keys over the network: {host} is not this machine");
            return Err(Failure::usage(text));
        }
        let tls = if options.plain {
            None
        } else {
            let name = ServerName::try_from(host.clone())
                .map_err(|_| Failure::usage(format!("`{host}` is no name for a certificate")))?;
            Some((TlsConnector::from(Arc::new(tls(&target, sign_in.resume_tls)?)), name))
        };
        Ok(Self {
            hostname: target.connection_string().host().to_owned(),
            address,
            sources: sources(options, address.ip(), devices),
            tls,
            keep_alive_secs: sign_in.keep_alive_secs,
            clean_session: sign_in.clean_session,
            model_id: sign_in.model_id.map(str::to_owned),
        })
    }

    /// `address` and how it is spoken to, for people.
    pub fn describe(&self) -> String {
        let how = if self.tls.is_some() { "MQTT over TLS" } else { "MQTT without TLS" };
        format!("{how}, {}", self.address)
    }

    /// Makes a connection and signs the device in.
    pub async fn enter(&self, id: &EntityId, key: &SymmetricKey, index: u64, now_ms: u64) -> Entered {
        tokio::time::timeout(PATIENCE, async {
            let mut stream = self.dial(index).await?;
            let session = self.sign_in(&mut stream, id, key, now_ms).await?;
            Ok((stream, session))
        })
        .await
        .unwrap_or(Err(Cause::Timeout))
    }

    async fn dial(&self, index: u64) -> std::result::Result<Stream, Cause> {
        let socket = match self.address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }
        .map_err(|error| dial_cause(&error))?;
        if !self.sources.is_empty() {
            let source = self.sources[(index % self.sources.len() as u64) as usize];
            socket.bind(SocketAddr::new(source, 0)).map_err(|error| dial_cause(&error))?;
        }
        let tcp = socket.connect(self.address).await.map_err(|error| dial_cause(&error))?;
        tcp.set_nodelay(true).map_err(|_| Cause::Reset)?;
        match &self.tls {
            None => Ok(Stream::Plain(tcp)),
            Some((connector, name)) => {
                let tls = connector.connect(name.clone(), tcp).await.map_err(|_| Cause::Tls)?;
                Ok(Stream::Tls(Box::new(tls)))
            }
        }
    }

    async fn sign_in(
        &self,
        stream: &mut Stream,
        id: &EntityId,
        key: &SymmetricKey,
        now_ms: u64,
    ) -> std::result::Result<Session, Cause> {
        let username = Username {
            host: &self.hostname,
            entity: id.as_str(),
            api_version: Some(API_VERSION.into()),
            model_id: self.model_id.as_deref().map(Into::into),
            client_type: Some(concat!("ostler-simulate/", env!("CARGO_PKG_VERSION")).into()),
        }
        .to_string();
        let token = self.token(id, key);
        let connect = Connect {
            client_id: id.as_str(),
            clean_session: self.clean_session,
            keep_alive_secs: self.keep_alive_secs,
            will: None,
            login: Some(Login { username: &username, password: Some(token.as_bytes()) }),
        };
        let mut output = Vec::new();
        let connecting = Connecting::start(&connect, Limits::default(), now_ms, &mut output)
            .map_err(|_| Cause::Protocol)?;
        stream.write_all(&output).await.map_err(|_| Cause::Reset)?;
        stream.flush().await.map_err(|_| Cause::Reset)?;
        // CONNACK has four bytes; with a stored session messages may follow at once, and belong to the session.
        let mut answer = [0u8; 4];
        stream.read_exact(&mut answer).await.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Cause::ClosedByHub,
            _ => Cause::Reset,
        })?;
        match connecting.next(&mut answer.as_slice(), now_ms) {
            Ok(Some(Answer::Accepted { session, .. })) => Ok(session),
            Ok(Some(Answer::Refused(Refusal::NotAuthorized))) => Err(Cause::NotAuthorized),
            Ok(Some(Answer::Refused(Refusal::Unavailable))) => Err(Cause::Unavailable),
            Ok(Some(Answer::Refused(_))) => Err(Cause::RefusedOtherwise),
            Ok(None) | Err(_) => Err(Cause::Protocol),
        }
    }

    /// Good for a day; the hub closes the connection when it ends, and the next one brings a new token.
    fn token(&self, id: &EntityId, key: &SymmetricKey) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let now = Timestamp::from_unix_secs(i64::try_from(now).unwrap_or(0));
        sas::sign(&format!("{}/devices/{id}", self.hostname), key, now.plus_secs(TOKEN_LIFETIME_SECS), None)
    }
}

/// A connection that is signed in, or why there is none.
pub type Entered = std::result::Result<(Stream, Session), Cause>;

/// A connection to the hub.
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

fn dial_cause(error: &io::Error) -> Cause {
    use rustix::io::Errno;
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE) => Cause::NoFiles,
        Some(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE) => Cause::NoPorts,
        _ => Cause::Dial,
    }
}

fn host_and_port(target: &Target, options: &DoorOptions) -> Result<(String, u16)> {
    let (host, _) = target.https();
    let port = match (target, options.mqtt_port) {
        (_, Some(port)) => port,
        (Target::Local { hub, .. }, None) if options.plain => hub.plain_mqtt_port.ok_or_else(|| {
            Failure::usage("the hub has no MQTT port without TLS")
                .advise("Start it with `ostler serve --plain-mqtt-port 1883`, or leave --plain out")
        })?,
        (Target::Local { hub, .. }, None) => hub.mqtt_port,
        (Target::Remote { .. }, None) if options.plain => {
            return Err(Failure::usage(
                "--plain needs --mqtt-port when the hub is named by a connection string",
            ))
        }
        (Target::Remote { .. }, None) => MQTT_TLS_PORT,
    };
    Ok((host, port))
}

/// The first address of the host that accepts a connection.
async fn reachable(host: &str, port: u16) -> Result<SocketAddr> {
    let unreachable = |why: String| {
        Failure::new(Exit::Unreachable, format!("cannot connect to {host}:{port} for MQTT: {why}"))
            .advise("Is the hub running, and is this its MQTT port? --mqtt-port names another")
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let addresses =
        tokio::net::lookup_host((bare, port)).await.map_err(|error| unreachable(error.to_string()))?;
    let mut last = "it has no address".to_owned();
    for address in addresses {
        match tokio::time::timeout(Duration::from_secs(5), TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Ok(address),
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = "no answer within 5 s".to_owned(),
        }
    }
    Err(unreachable(last))
}

/// The addresses to connect from; none leaves it to the system. All of 127.0.0.0/8 is this machine on Linux.
fn sources(options: &DoorOptions, hub: IpAddr, devices: u64) -> Vec<IpAddr> {
    if !options.sources.is_empty() {
        return options.sources.clone();
    }
    let loopback = matches!(hub, IpAddr::V4(ip) if ip.is_loopback());
    if !(cfg!(target_os = "linux") && loopback && devices > PER_SOURCE) {
        return Vec::new();
    }
    let wanted = devices.div_ceil(PER_SOURCE).min(250) as u8;
    (1..=wanted).map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))).collect()
}

fn tls(target: &Target, resume: bool) -> Result<rustls::ClientConfig> {
    let failed = |error: &dyn std::fmt::Display| Failure::failed(format!("TLS: {error}"));
    let mut roots = rustls::RootCertStore::empty();
    if let Some(path) = target.ca() {
        let pem = std::fs::read(path).map_err(|error| Failure::file(path, &error))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| failed(&format!("{}: {error}", path.display())))?;
            roots.add(certificate).map_err(|error| failed(&format!("{}: {error}", path.display())))?;
        }
    }
    if roots.is_empty() || matches!(target, Target::Remote { .. }) {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    if !resume {
        config.resumption = Resumption::disabled();
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_devices_come_from_several_addresses_of_this_machine() {
        let options = DoorOptions { plain: false, mqtt_port: None, sources: Vec::new() };
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let there = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(sources(&options, here, 20_000), Vec::<IpAddr>::new());
        assert_eq!(sources(&options, there, 90_000), Vec::<IpAddr>::new());
        if cfg!(target_os = "linux") {
            assert_eq!(sources(&options, here, 100_000).len(), 5);
        }
        let named = DoorOptions { sources: vec![there], ..options };
        assert_eq!(sources(&named, here, 5), [there]);
    }
}
