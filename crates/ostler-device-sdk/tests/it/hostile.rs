//! Other sides that are no hub, or a broken one.

use ostler_device_sdk::{Builder, Cause, Client, ConnectionStatus, Protocol, RetryPolicy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{hasty, read_head, soon, until, KEY};

const CONNACK: &[u8] = &[0x20, 2, 0, 0];

/// Says `answers`, one to each connection, once something has come; then waits for the other side to close, or closes.
async fn liar(answers: Vec<Vec<u8>>, closes: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = [0; 512];
            let _ = stream.read(&mut heard).await;
            let _ = stream.write_all(&answer).await;
            while !closes && stream.read(&mut heard).await.is_ok_and(|count| count > 0) {}
        }
    });
    port
}

fn builder(port: u16) -> Builder {
    let connection = format!("HostName=localhost:{port};DeviceId=d;SharedAccessKey={KEY}");
    Client::builder(connection.parse().unwrap()).plain().mqtt_port(port).retry(hasty())
}

async fn check(answer: &[u8], closes: bool, expected: Cause) {
    let client = builder(liar(vec![answer.to_vec()], closes).await).build().unwrap();
    let mut changes = client.status_changes();
    let sending = client.send("x");
    let lost = until(&mut changes, |status| matches!(status, ConnectionStatus::Disconnected { .. })).await;
    let ConnectionStatus::Disconnected { cause, next_attempt: Some(_) } = lost else { panic!("{lost:?}") };
    assert_eq!(cause, expected, "{answer:?}");
    drop(sending);
}

#[tokio::test]
async fn nonsense_ends_the_connection_and_not_the_client() {
    check(b"HTTP/1.1 400 Bad Request\r\n\r\n", false, Cause::Protocol).await;
    check(&[0xff; 100], false, Cause::Protocol).await;
    check(b"", true, Cause::Closed).await;
    check(&CONNACK[..2], true, Cause::Closed).await;
    check(&[0x20, 2, 0, 3], false, Cause::Busy).await;
    let half_a_packet = [CONNACK, &[0x30, 0x7f, 0, 9, b'$']].concat();
    check(&half_a_packet, true, Cause::Closed).await;
    let giant = [CONNACK, &[0x30, 0xff, 0xff, 0xff, 0x7f]].concat();
    check(&giant, false, Cause::Protocol).await;
    let second_connack = [CONNACK, CONNACK].concat();
    check(&second_connack, false, Cause::Protocol).await;
}

#[tokio::test]
async fn after_garbage_a_good_answer_counts() {
    let accepted = [CONNACK, &[0x40, 2, 0, 1]].concat();
    let port = liar(vec![b"garbage".to_vec(), CONNACK[..1].to_vec(), accepted], true).await;
    let client = builder(port).build().unwrap();
    let mut changes = client.status_changes();
    drop(client.send("x"));
    until(&mut changes, ConnectionStatus::is_connected).await;
}

#[tokio::test]
async fn some_refusals_are_final() {
    for (code, expected) in [(1, Cause::Protocol), (2, Cause::BadCredential), (4, Cause::BadCredential)] {
        let client = builder(liar(vec![vec![0x20, 2, 0, code]], false).await).build().unwrap();
        let error = soon(client.connect()).await.unwrap_err();
        let cause = match &error {
            ostler_device_sdk::ConnectError::Refused { cause, .. } => *cause,
            other => panic!("{other:?}"),
        };
        assert_eq!(cause, expected, "CONNACK {code}");
    }
}

#[tokio::test]
async fn a_websocket_that_is_none_is_told_so() {
    for (answer, expected) in [
        ("HTTP/1.1 404 Not Found\r\n\r\n", "answers 404"),
        ("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\n\r\n", "not read the request"),
        ("SSH-2.0-OpenSSH\r\n\r\n", "does not speak HTTP"),
        ("HTTP/1.1 429 Too Many\r\nRetry-After: 1\r\n\r\n", "too busy"),
    ] {
        let port = liar(vec![answer.into()], false).await;
        let builder = builder(port).protocol(Protocol::MqttWebSocket).retry(RetryPolicy::none());
        let error = soon(builder.build().unwrap().connect()).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_busy_hub_is_left_alone_as_long_as_it_asks() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 503 Busy\r\nRetry-After: 600\r\n\r\n").await;
        }
    });
    let client = builder(port).protocol(Protocol::MqttWebSocket).build().unwrap();
    let mut changes = client.status_changes();
    drop(client.send("x"));
    let busy = until(&mut changes, |status| matches!(status, ConnectionStatus::Disconnected { .. })).await;
    let ConnectionStatus::Disconnected { cause: Cause::Busy, next_attempt: Some(wait) } = busy else {
        panic!("{busy:?}")
    };
    assert!((600..602).contains(&wait.as_secs()), "{wait:?}");
}

#[tokio::test]
async fn a_hub_that_never_takes_leave_does_not_hold_the_client() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 512]).await;
        let _ = stream.write_all(CONNACK).await;
        // Neither reads nor closes.
        std::future::pending::<()>().await;
        drop(stream);
    });
    let client = builder(port).build().unwrap();
    soon(client.connect()).await.unwrap();
    let sending = client.send("x");
    let closed = soon(client.close(std::time::Duration::from_millis(100))).await;
    assert_eq!((closed.unsent, client.status()), (1, ConnectionStatus::Closed));
    assert_eq!(soon(sending).await, Err(ostler_device_sdk::SendError::Closed));
}
