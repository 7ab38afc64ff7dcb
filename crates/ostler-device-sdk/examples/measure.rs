//! What the device SDK costs: memory of many clients in one process, and the rate of confirmed messages beside a bare
//! MQTT client in the same run.
//!
//! ```text
//! ostler serve --ephemeral --plain-mqtt-port 0 --mqtt-packet-rate 0 --ready-file hub.json &
//! cargo run --release -p ostler-device-sdk --example measure -- clients 10000 hub.json
//! cargo run --release -p ostler-device-sdk --example measure -- telemetry 200000 hub.json
//! ```
//!
//! The hub must not hold the rate down, so its own limit of packets is off. Both register the devices they need. One file
//! must be allowed to be open for each client, here and at the hub.

#![allow(clippy::print_stdout)]

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ostler_core::identity::SymmetricKey;
use ostler_core::sas;
use ostler_core::time::Timestamp;
use ostler_device_sdk::{Client, Message};
use ostler_service_sdk::{Authentication, BulkEntry, BulkOptions, ImportMode};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// Clients that connect at the same time.
const AT_ONCE: usize = 100;
/// What may be unconfirmed: the SDK's window.
const WINDOW: u16 = 128;
/// What may wait in front of the window.
const WAITING: usize = 1024;
const PAYLOAD_BYTES: usize = 128;
const ROUNDS: usize = 3;

/// The hub's ready-file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hub {
    hostname: String,
    mqtt_port: u16,
    https_port: u16,
    plain_mqtt_port: Option<u16>,
    ca_file: String,
    connection_string: String,
}

impl Hub {
    fn ca(&self) -> Result<Vec<u8>> {
        Ok(std::fs::read(&self.ca_file)?)
    }

    async fn register(&self, devices: usize) -> Result<()> {
        let service = ostler_service_sdk::Client::builder(&self.connection_string)?
            .port(self.https_port)
            .root_ca_pem(self.ca()?)
            .build()?;
        let entries = (0..devices).map(|n| {
            let authentication = Authentication::symmetric(Some(KEY.into()), Some(KEY.into()));
            let entry = BulkEntry::new(ImportMode::CreateOrUpdate, name(n));
            BulkEntry { authentication: Some(authentication), ..entry }
        });
        let summary = service.bulk_all(entries, BulkOptions::default(), |_| ()).await?;
        if summary.failed > 0 {
            return Err(format!("{} of {} devices could not be registered", summary.failed, devices).into());
        }
        Ok(())
    }

    fn connection(&self, n: usize) -> String {
        format!("HostName={};DeviceId={};SharedAccessKey={KEY}", self.hostname, name(n))
    }
}

fn name(n: usize) -> String {
    format!("measure-{n}")
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, count, file] = arguments.as_slice() else {
        return Err("usage: measure clients|telemetry COUNT READY-FILE".into());
    };
    let hub: Hub = serde_json::from_slice(&std::fs::read(file)?)?;
    match what.as_str() {
        "clients" => clients(&hub, count.parse()?).await,
        "telemetry" => telemetry(&hub, count.parse()?).await,
        other => Err(format!("`{other}` is neither clients nor telemetry").into()),
    }
}

/// Connects clients over TLS that listen to methods and desired properties, and says what memory each takes.
async fn clients(hub: &Hub, count: usize) -> Result<()> {
    hub.register(count).await?;
    let ca = hub.ca()?;
    let gate = Arc::new(Semaphore::new(AT_ONCE));
    let before = resident_bytes()?;
    let started = Instant::now();
    let mut connecting = JoinSet::new();
    let mut clients = Vec::with_capacity(count);
    for n in 0..count {
        let client = Client::builder(hub.connection(n).parse()?)
            .mqtt_port(hub.mqtt_port)
            .root_ca_pem(&ca)
            .without_system_roots()
            .build()?;
        let permit = gate.clone().acquire_owned().await?;
        connecting.spawn(async move {
            client.on_method("ping", |(): ()| async move { Ok("pong") });
            let mut updates = client.desired();
            client.connect().await?;
            // The first is the whole twin: then everything is subscribed.
            updates.next().await;
            drop(permit);
            Ok::<_, ostler_device_sdk::ConnectError>((client, updates))
        });
        while let Some(connected) = connecting.try_join_next() {
            clients.push(connected??);
        }
    }
    while let Some(connected) = connecting.join_next().await {
        clients.push(connected??);
    }
    let took = started.elapsed();
    // What connecting needed is given back meanwhile: threads for looking up names end.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let used = resident_bytes()?.saturating_sub(before);
    let connected = clients.iter().filter(|(client, _)| client.status().is_connected()).count();
    println!(
        "clients={connected} connect_secs={:.1} rss_mib={:.1} bytes_per_client={}",
        took.as_secs_f64(),
        used as f64 / f64::from(1 << 20),
        used / count.max(1)
    );
    Ok(())
}

/// Resident memory of this process.
fn resident_bytes() -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS in /proc/self/status")?;
    let kib: usize = line.split_whitespace().nth(1).ok_or("VmRSS is empty")?.parse()?;
    Ok(kib << 10)
}

/// Sends the same messages by the SDK and by a bare MQTT client, in turns, and compares the rates.
async fn telemetry(hub: &Hub, count: usize) -> Result<()> {
    let port =
        hub.plain_mqtt_port.ok_or("the hub has no plain MQTT port; start it with --plain-mqtt-port 0")?;
    hub.register(2).await?;
    let (mut own, mut bare) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let rates = (by_sdk(hub, port, count).await?, by_rumqttc(hub, port, count).await?);
        println!("round={round} sdk_per_sec={:.0} rumqttc_per_sec={:.0}", rates.0, rates.1);
        // The first one warms up.
        if round > 0 {
            own.push(rates.0);
            bare.push(rates.1);
        }
    }
    let (own, bare) = (median(own), median(bare));
    println!("sdk_per_sec={own:.0} rumqttc_per_sec={bare:.0} ratio={:.2}", own / bare);
    Ok(())
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

async fn by_sdk(hub: &Hub, port: u16, count: usize) -> Result<f64> {
    let client = Client::builder(hub.connection(0).parse()?).plain().mqtt_port(port).build()?;
    client.connect().await?;
    let body = bytes::Bytes::from(vec![b'x'; PAYLOAD_BYTES]);
    let started = Instant::now();
    let mut waiting = VecDeque::with_capacity(WAITING);
    for _ in 0..count {
        if waiting.len() == WAITING {
            if let Some(oldest) = waiting.pop_front() {
                confirmed(oldest).await?;
            }
        }
        waiting.push_back(client.send(Message::new(body.clone())));
    }
    for sending in waiting {
        confirmed(sending).await?;
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    client.close(Duration::from_secs(5)).await;
    Ok(rate)
}

async fn confirmed(sending: ostler_device_sdk::Sending) -> Result<()> {
    Ok(sending.await?)
}

async fn by_rumqttc(hub: &Hub, port: u16, count: usize) -> Result<f64> {
    let id = name(1);
    let mut options = MqttOptions::new(&id, "127.0.0.1", port);
    options.set_credentials(format!("{}/{id}/?api-version=2021-04-12", hub.hostname), token(hub, &id)?);
    options.set_inflight(WINDOW);
    options.set_keep_alive(Duration::from_secs(60));
    let (client, mut events) = AsyncClient::new(options, WAITING);
    while !matches!(events.poll().await?, Event::Incoming(Packet::ConnAck(_))) {}
    let topic = format!("devices/{id}/messages/events/");
    let started = Instant::now();
    let sender = client.clone();
    let sending = tokio::spawn(async move {
        let body = bytes::Bytes::from(vec![b'x'; PAYLOAD_BYTES]);
        for _ in 0..count {
            sender.publish_bytes(topic.as_str(), QoS::AtLeastOnce, false, body.clone()).await?;
        }
        Ok::<(), rumqttc::ClientError>(())
    });
    let mut confirmed = 0;
    while confirmed < count {
        if let Event::Incoming(Packet::PubAck(_)) = events.poll().await? {
            confirmed += 1;
        }
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    sending.await??;
    client.disconnect().await?;
    // Until the goodbye is written.
    while !matches!(events.poll().await, Err(_) | Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect))) {}
    Ok(rate)
}

fn token(hub: &Hub, id: &str) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let expires = Timestamp::from_unix_secs(i64::try_from(now)? + 3600);
    let resource = format!("{}/devices/{id}", hub.hostname);
    Ok(sas::sign(&resource, &SymmetricKey::from_base64(KEY)?, expires, None))
}
