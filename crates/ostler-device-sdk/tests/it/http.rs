//! HTTPS by the client's own means: the hub's door, ranges, broken and silent servers.

use std::time::Duration;

use ostler_device_sdk::http::{HttpError, Https};
use ostler_device_sdk::Proxy;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::support::{read_head, soon, TestHub, TestProxy};

/// Answers each request with the same text; what was asked comes out of the channel. Stays open if `stays`.
async fn server(answer: &'static str, stays: bool) -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/image.bin?sig=secret", listener.local_addr().unwrap());
    let (asked, heads) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut open: Vec<TcpStream> = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = read_head(&mut stream).await;
            let _ = asked.send(head);
            stream.write_all(answer.as_bytes()).await.unwrap();
            if stays {
                open.push(stream);
            }
        }
    });
    (url, heads)
}

async fn https(hub: &TestHub) -> Https {
    hub.client("pump-7").https()
}

#[tokio::test]
async fn the_hub_is_asked_over_tls_with_the_devices_credential() {
    let hub = TestHub::start().await;
    let proxy = TestProxy::start(None).await;
    let through = Proxy::new("127.0.0.1", proxy.address.port());
    for (name, client) in
        [("straight", hub.client("pump-7")), ("proxy", hub.builder("pump-7").proxy(through).build().unwrap())]
    {
        let https = client.https();
        let url = format!("{}/devices/pump-7/files?api-version=2021-04-12", https.hub_url());
        let ask =
            || https.post(&url).header("content-type", "application/json").body(r#"{"blobName":"log"}"#);
        let known = soon(ask().sign_in().send()).await.unwrap();
        assert_eq!(known.status(), 200, "{name}");
        let unknown = soon(ask().send()).await.unwrap();
        assert_eq!(unknown.status(), 401, "{name}");
        let text = soon(unknown.bytes(10_000)).await.unwrap();
        assert!(text.starts_with(b"{"), "{text:?}");
    }
    assert_eq!(proxy.asked.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn the_credential_goes_nowhere_else() {
    let hub = TestHub::start().await;
    let https = https(&hub).await;
    for url in ["https://example.net/x", "https://localhost/x", "http://localhost:1/x"] {
        let error = soon(https.get(url).sign_in().send()).await.unwrap_err();
        assert!(matches!(&error, HttpError::Url { why, .. } if why.contains("hub only")), "{error}");
    }
}

#[tokio::test]
async fn ranges_are_asked_for_and_bodies_streamed() {
    let hub = TestHub::start().await;
    let answer = "HTTP/1.1 206 Partial\r\nContent-Length: 6\r\nETag: \"v1\"\r\nRetry-After: 3\r\n\r\nabcdef";
    let (url, mut heads) = server(answer, true).await;
    let https = https(&hub).await;
    let request = https.get(&url).range(4..10).header("if-match", "\"v1\"");
    assert!(!format!("{request:?}").contains("secret"));
    let mut answer = soon(request.send()).await.unwrap();
    let head = soon(heads.recv()).await.unwrap();
    assert!(head.starts_with("GET /image.bin?sig=secret HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("range: bytes=4-9\r\n") && head.contains("if-match: \"v1\"\r\n"), "{head}");
    assert_eq!(
        (answer.status(), answer.header("etag"), answer.content_length()),
        (206, Some("\"v1\""), Some(6))
    );
    assert_eq!(answer.retry_after(), Some(Duration::from_secs(3)));
    let mut whole = Vec::new();
    while let Some(piece) = soon(answer.chunk()).await.unwrap() {
        whole.extend_from_slice(&piece);
    }
    assert_eq!(whole, b"abcdef");

    let put = https.put(&url).body_from(&b"0123456789"[..], 10).send();
    soon(put).await.unwrap();
    let head = soon(heads.recv()).await.unwrap();
    assert!(head.starts_with("PUT ") && head.contains("content-length: 10\r\n"), "{head}");
}

#[tokio::test]
async fn what_breaks_off_says_so() {
    let hub = TestHub::start().await;
    let https = https(&hub).await;
    let (short, _heads) = server("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", false).await;
    let mut answer = soon(https.get(&short).send()).await.unwrap();
    assert_eq!(soon(answer.chunk()).await.unwrap().unwrap(), "abc");
    let error = soon(answer.chunk()).await.unwrap_err();
    assert!(matches!(error, HttpError::Broken { .. }) && error.is_transient(), "{error:?}");

    let (silent, _heads) = server("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", true).await;
    let request = https.get(&silent).timeout(Duration::from_millis(50));
    let error = soon(soon(request.send()).await.unwrap().bytes(100)).await.unwrap_err();
    assert!(matches!(error, HttpError::Silent { .. }), "{error:?}");

    let (long, _heads) = server("HTTP/1.1 200 OK\r\n\r\nabcdef", false).await;
    let error = soon(soon(https.get(&long).send()).await.unwrap().bytes(5)).await.unwrap_err();
    assert!(matches!(error, HttpError::TooLong { limit: 5, .. }), "{error:?}");

    let (nonsense, _heads) = server("SSH-2.0-x\r\n\r\n", false).await;
    let error = soon(https.get(&nonsense).send()).await.unwrap_err();
    assert!(matches!(error, HttpError::Broken { .. }), "{error:?}");

    let source = https.put(&short).body_from(&b"too little"[..], 100).send();
    assert!(soon(source).await.is_err());
}

#[tokio::test]
async fn urls_that_cannot_be_asked_are_named_without_their_query() {
    let hub = TestHub::start().await;
    let https = https(&hub).await;
    for (url, expected) in [
        ("nonsense", "must start with https"),
        ("/path", "names no host"),
        ("ftp://h/x?secret", "must start with https"),
        ("https://user:secret@h/x", "login"),
        ("http://192.0.2.1/x?secret", "use https"),
    ] {
        let error = soon(https.get(url).send()).await.unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("?secret"), "{error}");
    }
    let error = soon(https.get("https://h/x").header("bad name", "x").send()).await.unwrap_err();
    assert!(
        matches!(error, HttpError::Url { .. } | HttpError::Header(_) | HttpError::Connect { .. }),
        "{error:?}"
    );
}
