//! What whoever operates a hub relies on: health, metrics, the way out.

use crate::support::http::{read_answer, Answer};
use crate::support::hub::Hub;
use std::io::{BufReader, Write};
use std::net::TcpStream;

fn get(hub: &Hub, path: &str) -> Answer {
    let mut stream = TcpStream::connect(hub.address("plainHttpPort")).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    read_answer(&mut BufReader::new(stream)).unwrap()
}

#[test]
fn health_and_metrics_need_no_credentials_and_are_documented() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("data"));
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(&hub, path).status, 200, "{path}");
    }
    hub.owner().register("counted");
    let metrics = get(&hub, "/metrics");
    assert_eq!(metrics.status, 200);
    assert!(metrics.body.contains("\nostler_devices 1\n"), "{}", metrics.body);
    let page = include_str!("../../../../docs/operations.md");
    for name in metrics.body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        let documented = [format!("`{name}`"), format!("`{name}{{")].iter().any(|form| page.contains(form));
        assert!(documented, "docs/operations.md does not name {name}");
    }
}

#[test]
fn sigterm_drains_and_ends_well() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let hub = Hub::start(&data);
    let key = hub.owner().register("drained");
    let mut device = crate::support::mqtt::Device::connect(&hub, "drained", &key, true).unwrap();
    assert!(hub.stop().success());
    assert!(device.until(|_| false).is_err(), "the connection outlives the hub");
    assert_eq!(Hub::start(&data).owner().call("GET", "/devices/drained", None).unwrap().status, 200);
}
