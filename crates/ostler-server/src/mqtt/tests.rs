//! Deadlines of a connection, in virtual time over an in-memory stream.

use std::net::SocketAddr;
use std::time::Duration;

use ostler_core::sas;
use ostler_core::time::Timestamp;
use ostler_wire::mqtt::packet::{Connect, Login};
use tokio::io::{duplex, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;

use super::serve;
use crate::config::Config;
use crate::peer::{Peer, Transport};
use crate::{Running, Server};

const PINGREQ: [u8; 2] = [0xc0, 0];
const PINGRESP: [u8; 2] = [0xd0, 0];
/// Coarse ticks, rounded up twice, and the time the hub's store really takes.
const SLACK: Duration = Duration::from_secs(5);

async fn start() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let seed = folder.path().join("seed.json");
    std::fs::write(&seed, r#"{"devices": [{"id": "d"}]}"#).unwrap();
    let mut config = Config::ephemeral();
    config.seed = Some(seed);
    Server::start(config).await.unwrap()
}

fn open(running: &Running) -> DuplexStream {
    let (client, server) = duplex(1024);
    let peer = Peer::new(SocketAddr::from(([127, 0, 0, 1], 1)), Transport::PlainMqtt, None, None);
    serve(running.app().clone(), server, peer);
    client
}

/// Signs in with a token of the hub's own policy.
async fn connect(running: &Running, keep_alive_secs: u16, token_secs: i64) -> DuplexStream {
    let hub = &running.app().hub;
    let policy = hub.policy("device").unwrap();
    let expires = hub.now().plus_secs(token_secs);
    let token = sas::sign("localhost/devices/d", &policy.primary, whole(expires), Some("device"));
    let mut bytes = Vec::new();
    Connect {
        client_id: "d",
        clean_session: true,
        keep_alive_secs,
        will: None,
        login: Some(Login {
            username: "localhost/d/?api-version=2021-04-12",
            password: Some(token.as_bytes()),
        }),
    }
    .encode(&mut bytes)
    .unwrap();
    let mut client = open(running);
    client.write_all(&bytes).await.unwrap();
    let mut answer = [0; 4];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, [0x20, 2, 0, 0]);
    client
}

fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_unix_secs(time.unix_secs())
}

/// Waits for the end and says how long it took.
async fn closes_after(client: &mut DuplexStream) -> Duration {
    let start = Instant::now();
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest).await;
    assert!(rest.is_empty(), "{rest:?}");
    start.elapsed()
}

fn check(took: Duration, expected: Duration) {
    assert!(
        took + Duration::from_millis(200) >= expected && took <= expected + SLACK,
        "{took:?}, not {expected:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stranger_has_a_minute() {
    let running = start().await;
    let mut client = open(&running);
    client.write_all(&[0x10]).await.unwrap();
    check(closes_after(&mut client).await, Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn silence_is_tolerated_for_one_and_a_half_promises() {
    let running = start().await;
    let mut client = connect(&running, 20, 86_400).await;
    check(closes_after(&mut client).await, Duration::from_secs(30));
    let mut client = connect(&running, 0, 86_400).await;
    check(closes_after(&mut client).await, Duration::from_secs(1767));
}

#[tokio::test(start_paused = true)]
async fn any_packet_shows_life() {
    let running = start().await;
    let mut client = connect(&running, 20, 86_400).await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(25)).await;
        client.write_all(&PINGREQ).await.unwrap();
        let mut answer = [0; 2];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, PINGRESP);
    }
    check(closes_after(&mut client).await, Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn the_connection_ends_with_its_token() {
    let running = start().await;
    let mut client = connect(&running, 0, 120).await;
    // Tokens count for the clock skew beyond their end (device §1.4). They end by the machine's clock,
    // which goes on while time is paused here: a busy machine takes seconds off what is left.
    let (took, end) = (closes_after(&mut client).await, Duration::from_secs(120 + 300));
    assert!(took > end - Duration::from_secs(60) && took <= end + SLACK, "{took:?}, not {end:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_given_up() {
    let running = start().await;
    let mut client = connect(&running, 0, 86_400).await;
    // More answers than the stream holds.
    client.write_all(&PINGREQ.repeat(1000)).await.unwrap();
    let start = Instant::now();
    while running.app().doors().mqtt_write_timeouts == 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    check(start.elapsed(), Duration::from_secs(30));
}

#[test]
fn an_idle_connection_is_small() {
    let bytes = std::mem::size_of::<super::connection::Connection<tokio::net::TcpStream>>();
    assert!(bytes <= 640, "{bytes} bytes in each task");
}
