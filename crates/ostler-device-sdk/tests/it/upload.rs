//! Files to a real hub: in one piece, in blocks, over a line that breaks, and what is refused.

use std::future::IntoFuture;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use ostler_core::file::FileKey;
use ostler_device_sdk::upload::{Content, Upload, UploadError, Uploaded, BLOCK_BYTES};
use ostler_device_sdk::{Client, RetryPolicy};
use ostler_hub::events::EventKind;
use ring::digest::{digest, SHA256};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{entity, hasty, soon, TestHub, KEY};

async fn stored(hub: &TestHub, key: &str) -> Vec<u8> {
    let (_, mut file) = hub.hub().open_file(&FileKey::parse(key).unwrap()).await.unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

async fn done(upload: Upload) -> Result<Uploaded, UploadError> {
    soon(upload.into_future()).await
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

/// Relays to the hub; of all connections, every one that `breaks` names is reset at once.
async fn line(hub: &TestHub, breaks: impl Fn(usize) -> bool + Send + 'static) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, target) = (listener.local_addr().unwrap().port(), hub.running.addresses().https);
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            if breaks(counted.fetch_add(1, Ordering::Relaxed)) {
                continue;
            }
            tokio::spawn(async move {
                let mut far = TcpStream::connect(target).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (port, count)
}

fn through(hub: &TestHub, port: u16) -> Client {
    let connection = format!("HostName=localhost:{port};DeviceId=pump-7;SharedAccessKey={KEY}");
    hub.builder_of(&connection).build().unwrap()
}

#[tokio::test]
async fn files_in_one_piece_and_in_blocks() {
    let hub = TestHub::start().await;
    let client = hub.client("pump-7");
    let mut events = hub.events();
    let small =
        done(client.upload("logs/today #1.txt", "it works").content_type("text/plain")).await.unwrap();
    assert_eq!((small.blob.as_str(), small.bytes), ("pump-7/logs/today #1.txt", 8));
    assert_eq!(stored(&hub, &small.blob).await, b"it works");
    for count in [0, BLOCK_BYTES, BLOCK_BYTES + 1] {
        let (told, heard) = std::sync::mpsc::channel();
        let content = Content::reader(std::io::Cursor::new(bytes(count)));
        let upload = client.upload("large.bin", content).on_progress(move |now| told.send(now.sent).unwrap());
        let large = done(upload).await.unwrap();
        assert_eq!((large.bytes, heard.try_iter().last()), (count as u64, Some(count as u64)));
        assert!(stored(&hub, "pump-7/large.bin").await == bytes(count), "{count}");
        assert!(large.etag.is_some());
    }
    let mut uploaded = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let EventKind::FileUploaded { name, size, .. } = &event.kind {
            uploaded.push((name.clone(), *size));
        }
    }
    assert_eq!(uploaded.len(), 4, "{uploaded:?}");
    assert_eq!(hub.hub().file_counts().uploads, 0, "each was ended");
}

#[tokio::test]
async fn a_line_that_breaks_costs_a_retry() {
    let hub = TestHub::start().await;
    let (port, connections) = line(&hub, |number| number % 2 == 0).await;
    let client = through(&hub, port);
    let content = bytes(2 * BLOCK_BYTES + 7);
    done(client.upload("f", content.clone()).retry(hasty())).await.unwrap();
    assert!(stored(&hub, "pump-7/f").await == content);
    // Start, three blocks, the list, the end: each had to be tried twice.
    assert_eq!(connections.load(Ordering::Relaxed), 12);
}

#[tokio::test]
async fn a_hub_that_is_away_is_not_waited_for_longer_than_allowed() {
    let hub = TestHub::start().await;
    let (port, connections) = line(&hub, |_| true).await;
    let error = done(through(&hub, port).upload("f", "x").retry(RetryPolicy::none())).await.unwrap_err();
    assert!(matches!(error, UploadError::Unreachable { step: "start", .. }), "{error}");
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_file_that_is_refused_frees_its_place() {
    let hub = TestHub::with(&[("ephemeral", "true"), ("file-size-limit", "1000")]).await;
    let client = hub.client("pump-7");
    for _ in 0..11 {
        let error = done(client.upload("f", bytes(1001))).await.unwrap_err();
        assert!(matches!(&error, UploadError::Storage { status: 413, .. }), "{error}");
    }
    assert_eq!(hub.hub().file_counts().uploads, 0, "the hub was told of each failure");
    let error = done(client.upload("../../etc/passwd", "x")).await.unwrap_err();
    assert!(matches!(&error, UploadError::Hub { step: "start", status: 400, .. }), "{error}");
    let error = done(hub.client("pump-7/valve").upload("f", "x")).await.unwrap_err();
    assert!(matches!(error, UploadError::Module), "{error}");
    let error = done(hub.client("off").upload("f", "x")).await.unwrap_err();
    assert!(matches!(error, UploadError::Hub { status: 401, .. }), "{error}");
}

#[tokio::test]
async fn a_device_with_a_certificate_uploads_too() {
    let hub = TestHub::start().await;
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["cam".into()]).unwrap().self_signed(&key).unwrap();
    let digest = digest(&SHA256, certificate.der());
    let thumbprint: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let body = format!(
        r#"{{"deviceId": "cam", "authentication": {{"type": "selfSigned", "x509Thumbprint":
            {{"primaryThumbprint": "{thumbprint}", "secondaryThumbprint": "{thumbprint}"}}}}}}"#
    );
    hub.apply(entity("cam").as_str(), ostler_hub::registry::Action::Create, &body).await;
    let builder = hub.builder_of(&hub.connection_with("cam", "x509=true"));
    let client = builder.client_certificate_pem(certificate.pem(), key.serialize_pem()).build().unwrap();
    done(client.upload("picture.png", "png")).await.unwrap();
    assert_eq!(stored(&hub, "cam/picture.png").await, b"png");
}
