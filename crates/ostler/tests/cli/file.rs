//! `ostler file` against a real hub process, and the device SDK's upload as the device.

use std::fs;

use ostler_device_sdk::upload::{Content, BLOCK_BYTES};
use ostler_device_sdk::Client;
use serde_json::Value;

use crate::support::Hub;

/// Uploads as the device that the connection string names, over HTTPS with the hub's own CA.
fn upload(hub: &Hub, connection: &str, name: &str, bytes: Vec<u8>) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let ready = fs::read(hub.data().join("hub.json")).unwrap();
        let ready: Value = serde_json::from_slice(&ready).unwrap();
        let port = u16::try_from(ready["httpsPort"].as_u64().unwrap()).unwrap();
        let ca = fs::read(hub.data().join("ca.pem")).unwrap();
        let client = Client::builder(connection.parse().unwrap()).https_port(port).root_ca_pem(ca);
        let client = client.without_system_roots().build().unwrap();
        let (told, heard) = std::sync::mpsc::channel();
        let content = Content::reader(std::io::Cursor::new(bytes));
        let upload = client.upload(name, content).content_type("text/plain");
        let stored = upload.on_progress(move |progress| told.send(progress.sent).unwrap()).await.unwrap();
        assert_eq!(heard.try_iter().last(), Some(stored.bytes));
        stored.bytes
    })
}

#[test]
fn files_come_from_a_device_and_are_listed_fetched_and_deleted() {
    let hub = Hub::start();
    hub.run(&["device", "create", "pump-7"]).ok();
    let connection = hub.run(&["device", "connection-string", "pump-7"]).ok().stdout;
    let connection = connection.trim();
    let large: Vec<u8> = (0..2 * BLOCK_BYTES + 5).map(|i| u8::try_from(i % 251).unwrap()).collect();
    assert_eq!(upload(&hub, connection, "logs/today #1.txt", b"it works".to_vec()), 8);
    assert_eq!(upload(&hub, connection, "large.bin", large.clone()), large.len() as u64);

    let list = hub.run(&["file", "list"]).ok().stdout;
    assert!(list.contains("pump-7/large.bin") && list.contains("pump-7/logs/today #1.txt"), "{list}");
    let json = hub.run(&["file", "list", "pump-7", "-o", "json"]).ok().json();
    assert_eq!((json[1]["size"].as_u64(), json[1]["contentType"].as_str()), (Some(8), Some("text/plain")));

    let to_stdout = hub.run(&["file", "get", "pump-7/logs/today #1.txt", "--to", "-"]).ok();
    assert_eq!(to_stdout.stdout, "it works");
    hub.run(&["file", "get", "pump-7/large.bin"]).ok();
    assert!(fs::read(hub.folder().join("large.bin")).unwrap() == large, "not what was uploaded");
    hub.run(&["file", "get", "pump-7/large.bin"]).fails(2);
    hub.run(&["file", "get", "pump-7/large.bin", "--force"]).ok();
    let none = hub.run(&["file", "get", "pump-7/none"]).fails(3);
    assert!(none.stderr.contains("ostler file list pump-7"), "{}", none.stderr);
    hub.run(&["file", "get", "pump-7"]).fails(2);
    assert!(!hub.folder().join("none").exists());

    hub.run(&["file", "delete", "pump-7/large.bin", "pump-7/logs/today #1.txt"]).ok();
    assert_eq!(hub.run(&["file", "list", "-o", "json"]).ok().stdout.trim(), "[]");
    hub.run(&["file", "delete", "pump-7/large.bin"]).fails(3);
}
