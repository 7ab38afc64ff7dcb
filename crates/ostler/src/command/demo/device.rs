//! The demo's device: an MQTT client over TLS that does what a device SDK does, and no more.
//!
//! Must not know: the REST door, what is narrated. It speaks with `ostler-wire`'s client session, as any device would
//! speak by the published topics.
//!
//! Invariant: every wait for the hub ends after [`PATIENCE`].

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{anyhow, bail, Context, Result};
use ostler_core::id::EntityId;
use ostler_core::identity::SymmetricKey;
use ostler_core::record::Interest;
use ostler_core::sas;
use ostler_core::time::Timestamp;
use ostler_wire::mqtt::client::{Answer, Connecting, Event, Limits, Session};
use ostler_wire::mqtt::packet::{Connect, Login, QoS, SubscribeOutcome};
use ostler_wire::mqtt::Attempt;
use ostler_wire::topic::{filter, DeviceRequest, HubMessage};
use ostler_wire::username::Username;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const PATIENCE: Duration = Duration::from_secs(10);
const TOKEN_LIFETIME_SECS: i64 = 3600;
const API_VERSION: &str = "2021-04-12";

/// What the device is set up with at the factory.
#[derive(Debug, Clone)]
pub struct Device {
    pub id: EntityId,
    pub key: SymmetricKey,
    /// The hub's name, as in the connection string.
    pub hostname: String,
    /// Where the MQTT door is.
    pub door: SocketAddr,
    /// The CA it trusts.
    pub ca_pem: String,
}

/// A live connection.
pub struct Connection {
    id: EntityId,
    stream: TlsStream<TcpStream>,
    session: Session,
    input: Vec<u8>,
    output: Vec<u8>,
    started: Instant,
    requests: u32,
    /// Heard while waiting for something else.
    backlog: VecDeque<Heard>,
}

/// What the hub said.
#[derive(Debug)]
pub enum Heard {
    /// The answer to a twin request.
    Answer { status: u16, rid: String, version: Option<u64> },
    /// The desired properties changed; the part that did.
    Desired(Value),
    /// A method is to be run.
    Call { method: String, rid: String, payload: Value },
    /// A message was taken.
    Acked,
    /// The answer to a subscription.
    Subscribed { all: bool },
}

impl Device {
    /// Connects, signs in with a token made from the key, and subscribes to what a device SDK subscribes to.
    pub async fn connect(&self) -> Result<Connection> {
        let tcp = within(TcpStream::connect(self.door)).await?.context("no TCP connection")?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(self.hostname.clone()).context("the hub's name")?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(self.tls()?));
        let mut stream = within(connector.connect(name, tcp)).await?.context("no TLS")?;
        let started = Instant::now();
        let session = within(self.sign_in(&mut stream)).await??;
        let id = self.id.clone();
        let mut connection = Connection {
            id,
            stream,
            session,
            input: Vec::new(),
            output: Vec::new(),
            started,
            requests: 0,
            backlog: VecDeque::new(),
        };
        within(connection.subscribe()).await??;
        Ok(connection)
    }

    fn tls(&self) -> Result<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.ca_pem.as_bytes()) {
            roots.add(certificate?)?;
        }
        Ok(rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth())
    }

    async fn sign_in(&self, stream: &mut TlsStream<TcpStream>) -> Result<Session> {
        let username = Username {
            host: &self.hostname,
            entity: self.id.as_str(),
            api_version: Some(API_VERSION.into()),
            model_id: None,
            client_type: Some(concat!("ostler-demo/", env!("CARGO_PKG_VERSION")).into()),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let expires = Timestamp::from_unix_secs(i64::try_from(now)?).plus_secs(TOKEN_LIFETIME_SECS);
        let token = sas::sign(&format!("{}/devices/{}", self.hostname, self.id), &self.key, expires, None);
        let username = username.to_string();
        let connect = Connect {
            client_id: self.id.as_str(),
            clean_session: false,
            keep_alive_secs: 60,
            will: None,
            login: Some(Login { username: &username, password: Some(token.as_bytes()) }),
        };
        let mut output = Vec::new();
        let connecting = Connecting::start(&connect, Limits::default(), 0, &mut output)
            .map_err(|error| anyhow!("CONNECT: {error}"))?;
        stream.write_all(&output).await?;
        let mut input = Vec::new();
        loop {
            if stream.read_buf(&mut input).await? == 0 {
                bail!("the hub closed the connection during sign-in");
            }
            match connecting.next(&mut input.as_slice(), 0)? {
                None => {}
                Some(Answer::Accepted { session, .. }) => return Ok(session),
                Some(Answer::Refused(refusal)) => bail!("the hub refused the sign-in: {refusal:?}"),
            }
        }
    }
}

impl Connection {
    /// The next thing the hub says. Keeps the connection alive while waiting, without end; nothing is lost when the
    /// waiting is given up.
    pub async fn next(&mut self) -> Result<Heard> {
        match self.backlog.pop_front() {
            Some(heard) => Ok(heard),
            None => self.receive().await,
        }
    }

    async fn receive(&mut self) -> Result<Heard> {
        loop {
            self.flush().await?;
            if let Some(heard) = self.take()? {
                return Ok(heard);
            }
            let idle = self.session.deadline().map_or(u64::MAX, |due| due.saturating_sub(self.now()));
            tokio::select! {
                read = self.stream.read_buf(&mut self.input) => if read? == 0 {
                    bail!("the hub closed the connection");
                },
                () = tokio::time::sleep(Duration::from_millis(idle)) => {
                    let now = self.now();
                    self.session.handle_timeout(now, &mut self.output)?;
                }
            }
        }
    }

    /// Changes reported properties and waits until the hub has stored them; returns their version.
    pub async fn report(&mut self, patch: &Value) -> Result<u64> {
        let rid = self.rid();
        let id = self.id.clone();
        let topic = DeviceRequest::ReportedPatch { rid: Some(&rid), version: None }.of(&id);
        self.session.publish(&topic, &serde_json::to_vec(patch)?, &mut self.output)?;
        let answer = |heard: &Heard| matches!(heard, Heard::Answer { rid: answered, .. } if *answered == rid);
        match within(self.wait_for(answer)).await?? {
            Heard::Answer { status: 204, version, .. } => version.context("the answer has no version"),
            other => bail!("the hub refused the report: {other:?}"),
        }
    }

    /// Sends a message and waits until the hub has taken it.
    pub async fn send(&mut self, body: &Value) -> Result<()> {
        let id = self.id.clone();
        let topic = DeviceRequest::Telemetry { bag: ostler_wire::topic::Bag::default() }.of(&id);
        let body = serde_json::to_vec(body)?;
        self.session
            .publish_acked(&topic, &body, Attempt::First, &mut self.output)
            .map_err(|error| anyhow!("PUBLISH: {error:?}"))?;
        within(self.wait_for(|heard| matches!(heard, Heard::Acked))).await?.map(drop)
    }

    /// Answers a method call.
    pub async fn answer(&mut self, rid: &str, status: i32, payload: &Value) -> Result<()> {
        let id = self.id.clone();
        let topic = DeviceRequest::MethodResponse { status, rid }.of(&id);
        self.session.publish(&topic, &serde_json::to_vec(payload)?, &mut self.output)?;
        within(self.flush()).await?
    }

    /// Says goodbye.
    pub async fn disconnect(mut self) -> Result<()> {
        self.session.disconnect(&mut self.output);
        within(async {
            self.stream.write_all(&self.output).await?;
            self.stream.shutdown().await
        })
        .await?
        .context("goodbye")
    }

    async fn subscribe(&mut self) -> Result<()> {
        let filters: Vec<String> = [Interest::TwinAnswers, Interest::DesiredChanges, Interest::Methods]
            .into_iter()
            .filter_map(|interest| filter(interest, &self.id))
            .collect();
        let filters: Vec<(&str, QoS)> = filters.iter().map(|f| (f.as_str(), QoS::AtMostOnce)).collect();
        self.session
            .subscribe(&filters, &mut self.output)
            .map_err(|error| anyhow!("SUBSCRIBE: {error:?}"))?;
        match self.wait_for(|heard| matches!(heard, Heard::Subscribed { .. })).await? {
            Heard::Subscribed { all: true } => Ok(()),
            _ => bail!("the hub refused a subscription"),
        }
    }

    /// Waits for one thing; what else is heard meanwhile is kept for [`Self::next`].
    async fn wait_for(&mut self, wanted: impl Fn(&Heard) -> bool) -> Result<Heard> {
        loop {
            let heard = self.receive().await?;
            if wanted(&heard) {
                return Ok(heard);
            }
            self.backlog.push_back(heard);
        }
    }

    fn take(&mut self) -> Result<Option<Heard>> {
        let mut input = self.input.as_slice();
        let mut ticket = None;
        let heard = match self.session.next(&mut input)? {
            None => None,
            Some(Event::Message(message)) => {
                ticket = message.ticket;
                Some(hear(message.topic, message.payload, &self.id)?)
            }
            Some(Event::Acked(_)) => Some(Heard::Acked),
            Some(Event::Subscribed(answer)) => {
                let all = answer.outcomes().all(|outcome| matches!(outcome, SubscribeOutcome::Granted(_)));
                Some(Heard::Subscribed { all })
            }
            Some(Event::Unsubscribed(_)) => bail!("an answer to nothing that was asked"),
        };
        let read = self.input.len() - input.len();
        self.input.drain(..read);
        if let Some(ticket) = ticket {
            self.session.ack(ticket, &mut self.output);
        }
        Ok(heard)
    }

    async fn flush(&mut self) -> Result<()> {
        while !self.output.is_empty() {
            let written = self.stream.write(&self.output).await?;
            self.output.drain(..written);
        }
        Ok(self.stream.flush().await?)
    }

    fn rid(&mut self) -> String {
        self.requests += 1;
        self.requests.to_string()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn hear(topic: &str, payload: &[u8], id: &EntityId) -> Result<Heard> {
    let json = || serde_json::from_slice(payload).with_context(|| format!("{topic}: not JSON"));
    Ok(match HubMessage::parse(topic, id).map_err(|error| anyhow!("{topic}: {error}"))? {
        HubMessage::TwinResponse { status, rid, version } => {
            Heard::Answer { status, rid: rid.to_owned(), version }
        }
        HubMessage::DesiredChanged { .. } => Heard::Desired(json()?),
        HubMessage::MethodRequest { method, rid } => {
            Heard::Call { method: method.to_owned(), rid: rid.to_owned(), payload: json()? }
        }
        other => bail!("{topic}: not asked for: {other:?}"),
    })
}

async fn within<T>(future: impl std::future::Future<Output = T>) -> Result<T> {
    tokio::time::timeout(PATIENCE, future)
        .await
        .map_err(|_| anyhow!("the hub did not answer within {} s", PATIENCE.as_secs()))
}
