//! Starting and stopping: what is written down, what is finished, what is left.

use std::time::Duration;

use crate::support::{config, Seen, TestHub};
use ostler_server::{Server, StartError};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_start_says_where_it_is_and_a_stop_takes_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("ready.json"));
    let running = Server::start(config(&[
        ("data", data.to_str().unwrap()),
        ("ready-file", file.to_str().unwrap()),
        ("plain-http-port", "0"),
    ]))
    .await
    .unwrap();
    let ready = std::fs::read_to_string(&file).unwrap();
    assert_eq!(ready, std::fs::read_to_string(data.join("hub.json")).unwrap());
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    let addresses = running.addresses();
    assert_eq!(ready["mqttPort"], addresses.mqtt.port());
    assert_eq!(ready["httpsPort"], addresses.https.port());
    assert_eq!(ready["plainMqttPort"], addresses.plain_mqtt.unwrap().port());
    assert_eq!(ready["plainHttpPort"], addresses.plain_http.unwrap().port());
    assert_eq!(ready["caFile"], data.join("ca.pem").to_str().unwrap());
    let text = ready["connectionString"].as_str().unwrap();
    assert!(
        text.starts_with("HostName=localhost;SharedAccessKeyName=iothubowner;SharedAccessKey="),
        "{text}"
    );

    let again = Server::start(config(&[("data", data.to_str().unwrap())])).await;
    assert!(matches!(again, Err(StartError::Store(_))), "the folder is in use");

    running.stop().await;
    assert!(!file.exists() && !data.join("hub.json").exists());
    assert!(TcpStream::connect(addresses.mqtt).await.is_err());
    let running = Server::start(config(&[("data", data.to_str().unwrap())])).await.unwrap();
    assert_eq!(running.ready().connection_string, text, "keys stay");
    running.stop().await;
}

#[tokio::test]
async fn an_ephemeral_hub_leaves_nothing() {
    let hub = TestHub::start().await;
    let ready = hub.running.ready().clone();
    let ca = ready.ca_file.unwrap();
    assert!(ca.exists() && ready.data_dir.is_none());
    hub.running.stop().await;
    assert!(!ca.exists());
}

#[tokio::test]
async fn a_seed_that_is_wrong_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let seed = folder.path().join("seed.json");
    std::fs::write(&seed, r#"{"devices": [{"id": "a b"}]}"#).unwrap();
    let error =
        Server::start(config(&[("ephemeral", "true"), ("seed", seed.to_str().unwrap())])).await.unwrap_err();
    assert!(error.to_string().contains("devices[0] (a b)"), "{error}");
}

#[tokio::test]
async fn devices_and_strangers_are_closed_and_the_drain_ends() {
    let hub = TestHub::start().await;
    let mut device = hub.device("pump-7").await;
    let _stranger = hub.tcp().await;
    while hub.running.app().doors().half_open == 0 {
        tokio::task::yield_now().await;
    }
    let app = hub.running.app().clone();
    let stop = tokio::spawn(hub.running.drain(Duration::from_secs(5)));
    assert_eq!(device.next().await, Seen::Closed);
    stop.await.unwrap();
    assert_eq!(app.doors().connections, 0);
}
