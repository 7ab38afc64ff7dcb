//! The door for MQTT over WebSocket.

use super::harness::TestHub;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn upgrade(protocol: &str) -> String {
    format!(
        "GET /$iothub/websocket?iothub-no-client-cert=true HTTP/1.1\r\nHost: localhost:443\r\nOrigin: https://localhost\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {protocol}\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
    )
}

#[tokio::test]
async fn the_token_comes_back_as_offered_and_mqtt_answers_in_frames() {
    let hub = TestHub::start().await;
    for protocol in ["mqtt", "MQTT"] {
        let mut client = hub.connect().await;
        client.send(&upgrade(protocol)).await;
        let answer = client.answer(true).await;
        assert_eq!(answer.status, 101, "{}", answer.head);
        assert_eq!(answer.header("sec-websocket-protocol"), Some(protocol));
        assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(answer.header("sec-websocket-extensions"), None);

        // A CONNECT of nobody, masked with zeros, cut into two frames in the middle.
        let connect = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04nope";
        for part in [&connect[..7], &connect[7..]] {
            let mut frame = vec![0x82, 0x80 | part.len() as u8, 0, 0, 0, 0];
            frame.extend_from_slice(part);
            client.stream.write_all(&frame).await.unwrap();
        }
        let mut connack = [0; 6];
        client.stream.read_exact(&mut connack).await.unwrap();
        assert_eq!(connack, [0x82, 4, 0x20, 2, 0, 5], "a refusal in a binary frame");
    }
}

#[tokio::test]
async fn other_protocols_are_refused_clearly() {
    let hub = TestHub::start().await;
    for (protocol, status, text) in [
        ("AMQPWSB10", 501, "AMQP over WebSocket is not supported by Ostler (yet)"),
        ("chat", 426, "the hub speaks the WebSocket subprotocol mqtt here; offered: chat"),
    ] {
        let mut client = hub.connect().await;
        client.send(&upgrade(protocol)).await;
        let answer = client.answer(false).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(answer.body.contains(text), "{}", answer.body);
    }
    let answer = hub.connect().await.call("GET /$iothub/websocket", &[], "").await;
    assert_eq!((answer.status, answer.header("upgrade")), (426, Some("websocket")));
}
