//! Hostile and broken clients at every door: each is refused in the door's own words, and the others never notice.
//!
//! Invariant: every test ends with a well-behaved device and a well-behaved service client being served.

use crate::support::http::{now, read_answer, sas, Answer, Http, API};
use crate::support::hub::Hub;
use crate::support::mqtt::{packet, string, Credentials, Device};
use crate::support::random::Random;
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

const PORTS: [&str; 4] = ["mqttPort", "httpsPort", "plainMqttPort", "plainHttpPort"];

/// What a hub may grow to while it is being flooded; each flood here is far larger.
const MEMORY_LIMIT_KIB: u64 = 200 * 1024;

/// A hub and a registered device that must keep being served.
struct Scene {
    hub: Hub,
    key: String,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn new(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hub = Hub::start_with(&folder.path().join("data"), arguments);
        let key = hub.owner().register("honest");
        Self { hub, key, _folder: folder }
    }

    fn open(&self, port: &str) -> TcpStream {
        let stream = TcpStream::connect(self.hub.address(port)).unwrap();
        stream.set_read_timeout(Some(crate::support::hub::PATIENCE)).unwrap();
        stream
    }

    /// The hub serves an honest device and an honest back end, and has kept its memory.
    fn still_serves(&self) {
        let mut device = Device::connect(&self.hub, "honest", &self.key, true).unwrap();
        device.subscribe("$iothub/twin/res/#").unwrap();
        device.report(1, r#"{"well":true}"#).unwrap();
        let twin = self.hub.owner().call("GET", "/twins/honest", None).unwrap().json();
        assert_eq!(twin["properties"]["reported"]["well"], true);
        assert!(
            self.hub.memory_kib("VmHWM:") < MEMORY_LIMIT_KIB,
            "{} KiB at its peak",
            self.hub.memory_kib("VmHWM:")
        );
    }
}

/// Reads until the other side closes; true if it does within the patience.
fn closes(stream: &mut TcpStream) -> bool {
    let mut sink = [0; 4096];
    loop {
        match stream.read(&mut sink) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

/// An error of the service door: its status, and a body that names the error.
fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(answer.body.contains(code), "{answer:?}");
}

#[test]
fn random_bytes_on_every_port() {
    let mut random = Random::from_env(1);
    let scene = Scene::new(&[]);
    for port in PORTS {
        for _ in 0..100 {
            let mut stream = scene.open(port);
            let length = random.within(1..2000) as usize;
            // The hub may have closed already.
            stream.write_all(&random.bytes(length)).ok();
            stream.shutdown(Shutdown::Write).ok();
            assert!(closes(&mut stream), "{port} keeps a connection that its client has ended");
        }
    }
    scene.still_serves();
}

#[test]
fn the_other_doors_protocol() {
    let scene = Scene::new(&[]);
    let connect = Credentials::new(scene.hub.hostname(), "honest", &scene.key).connect(true);
    let get = format!("GET /devices?{API} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes();
    // A ClientHello that ends in the middle, and one announcing more than TLS allows.
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3][..], &[7; 40]].concat();
    for port in PORTS {
        for bytes in [&connect, &get, &hello, &vec![0x16, 3, 1, 0xFF, 0xFF]] {
            let mut stream = scene.open(port);
            stream.write_all(bytes).ok();
            stream.shutdown(Shutdown::Write).ok();
            assert!(closes(&mut stream), "{port}");
        }
    }
    scene.still_serves();
}

#[test]
fn every_truncation_of_a_sign_in() {
    let scene = Scene::new(&[]);
    let connect = Credentials::new(scene.hub.hostname(), "honest", &scene.key).connect(true);
    for length in 0..connect.len() {
        let mut stream = scene.open("plainMqttPort");
        stream.write_all(&connect[..length]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        assert!(answer.is_empty(), "{length} of {} bytes were answered: {answer:?}", connect.len());
    }
    scene.still_serves();
}

#[test]
fn packets_that_mqtt_forbids_end_the_connection() {
    let scene = Scene::new(&[]);
    let publish = |topic: &[u8]| {
        let mut body = (topic.len() as u16).to_be_bytes().to_vec();
        body.extend_from_slice(topic);
        packet(0x30, &body)
    };
    let mut no_filters = 7_u16.to_be_bytes().to_vec();
    let subscribe_to_nothing = packet(0x82, &no_filters);
    string(&mut no_filters, "$iothub/methods/POST/#");
    no_filters.push(3);
    let forbidden: Vec<(&str, Vec<u8>)> = vec![
        ("a second CONNECT", Credentials::new(scene.hub.hostname(), "honest", &scene.key).connect(true)),
        ("a length of five bytes", vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]),
        ("256 MB announced", vec![0x30, 0xFF, 0xFF, 0xFF, 0x7F]),
        ("type 0", vec![0x00, 0x00]),
        ("type 15", vec![0xF0, 0x00]),
        ("QoS 3", packet(0x36, b"\x00\x01a\x00\x01")),
        ("a topic that is no UTF-8", publish(b"\xFF\xFE")),
        ("a topic with NUL", publish(b"devices/honest/messages/events/\0")),
        ("a topic with a wildcard", publish(b"devices/+/messages/events/")),
        ("somebody else's topic", publish(b"devices/other/messages/events/")),
        ("a subscription to nothing", subscribe_to_nothing),
        ("a subscription at QoS 3", packet(0x82, &no_filters)),
        ("packet id 0", packet(0x32, b"\x00\x01a\x00\x00")),
        ("a server's packet", packet(0x20, &[0, 0])),
    ];
    let credentials = Credentials::new(scene.hub.hostname(), "honest", &scene.key);
    for (what, bytes) in forbidden {
        let mut stream = scene.open("plainMqttPort");
        stream.write_all(&credentials.connect(true)).unwrap();
        let mut connack = [0; 4];
        stream.read_exact(&mut connack).unwrap();
        assert_eq!(connack, [0x20, 2, 0, 0]);
        stream.write_all(&bytes).unwrap();
        assert!(closes(&mut stream), "the connection stays after {what}");
    }
    scene.still_serves();
}

#[test]
fn a_client_that_dawdles_is_closed_and_holds_up_nobody() {
    let scene = Scene::new(&[
        "--connect-timeout",
        "1s",
        "--http-header-timeout",
        "1s",
        "--tls-handshake-timeout",
        "1s",
    ]);
    let connect = Credentials::new(scene.hub.hostname(), "honest", &scene.key).connect(true);
    let half = &connect[..connect.len() / 2];
    let request = format!("GET /devices?{API} HTTP/1.1\r\nHost");
    let starts: [(&str, &[u8]); 4] = [
        ("plainMqttPort", half),
        ("plainHttpPort", request.as_bytes()),
        ("mqttPort", &[0x16, 3, 1]),
        ("httpsPort", &[0x16]),
    ];
    let mut dawdlers: Vec<(&str, TcpStream)> = Vec::new();
    for (port, bytes) in starts {
        for _ in 0..50 {
            let mut stream = scene.open(port);
            stream.write_all(bytes).unwrap();
            dawdlers.push((port, stream));
        }
    }
    scene.still_serves();
    for (port, stream) in &mut dawdlers {
        assert!(closes(stream), "{port} keeps a client that never finishes");
    }
}

#[test]
fn thousands_of_half_open_connections() {
    let limit = "1500";
    let scene = Scene::new(&["--max-half-open", limit, "--max-half-open-per-source", "1000"]);
    let target = scene.hub.address("mqttPort");
    let silent: Vec<TcpStream> =
        (0..3).flat_map(|source| (0..1200).filter_map(move |_| open_from(source, target))).collect();
    assert!(silent.len() > 3000, "only {} connections could be opened", silent.len());
    scene.still_serves();
    drop(silent);
    scene.still_serves();
}

/// A connection from another loopback address, so that no source has more than its share.
fn open_from(source: u8, target: SocketAddr) -> Option<TcpStream> {
    use rustix::net::{bind, connect, socket, AddressFamily, SocketType};
    let descriptor = socket(AddressFamily::INET, SocketType::STREAM, None).ok()?;
    bind(&descriptor, &SocketAddr::from(([127, 0, 1, source + 1], 0))).ok()?;
    connect(&descriptor, &target).ok()?;
    Some(TcpStream::from(descriptor))
}

#[test]
fn bodies_of_300_mb() {
    let scene = Scene::new(&[]);
    let owner = scene.hub.owner();
    let head = |framing: &str| {
        format!(
            "PUT /devices/big?{API} HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\nContent-Type: application/json\r\n{framing}\r\n\r\n",
            owner.host,
            owner.token()
        )
    };
    for framing in ["Content-Length: 314572800", "Transfer-Encoding: chunked"] {
        let stream = scene.open("plainHttpPort");
        let mut writer = stream.try_clone().unwrap();
        let announced = head(framing);
        let chunked = framing.contains("chunked");
        let flood = std::thread::spawn(move || -> io::Result<()> {
            writer.write_all(announced.as_bytes())?;
            let piece = vec![b'['; 1 << 20];
            for _ in 0..300 {
                if chunked {
                    writer.write_all(b"100000\r\n")?;
                }
                writer.write_all(&piece)?;
                if chunked {
                    writer.write_all(b"\r\n")?;
                }
            }
            Ok(())
        });
        let answer = read_answer(&mut BufReader::new(stream)).unwrap();
        assert_eq!(answer.status, 413, "{framing}: {answer:?}");
        assert!(flood.join().unwrap().is_err(), "{framing}: the hub has read 300 MB");
    }
    scene.still_serves();
}

#[test]
fn json_bombs() {
    let scene = Scene::new(&[]);
    let mut owner = scene.hub.owner();
    let nested = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    let tags = |value: &str| format!(r#"{{"tags":{{"bomb":{value}}}}}"#);
    let wide: Vec<String> = (0..20_000).map(|i| format!(r#""k{i}":{i}"#)).collect();
    let bombs = [
        ("nesting", tags(&nested(20_000))),
        ("array nesting", tags(&format!("{}{}", "[".repeat(50_000), "]".repeat(50_000)))),
        ("one level too many", tags(&nested(11))),
        ("too many bytes", tags(&format!("{{{}}}", wide.join(",")))),
        ("a number without end", tags(&format!("1e{}", "9".repeat(5_000)))),
        ("a number out of range", tags("99999999999999999999999999")),
        ("a lone surrogate", tags(r#""\ud800""#)),
        ("a control character in a key", r#"{"tags":{"a\u0000b":1}}"#.into()),
        ("an unfinished text", r#"{"tags":{"a":"#.into()),
        ("two documents", r#"{"tags":{}} {"tags":{}}"#.into()),
        ("an array of nothing", "[]".into()),
    ];
    for (what, body) in bombs {
        let answer = owner.call("PATCH", "/twins/honest", Some(&body)).unwrap();
        assert!(matches!(answer.status, 400 | 413), "{what}: {answer:?}");
        assert!(answer.json()["Message"].is_string(), "{what}: {answer:?}");
    }
    let twin = owner.call("GET", "/twins/honest", None).unwrap().json();
    assert!(twin["tags"].get("bomb").is_none(), "{twin}");
    scene.still_serves();
}

#[test]
fn the_last_of_duplicate_keys_counts() {
    let scene = Scene::new(&[]);
    let mut owner = scene.hub.owner();
    let body = r#"{"tags":{"a":{"x":1},"b":2,"a":3}}"#;
    let answer = owner.call("PATCH", "/twins/honest", Some(body)).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body.matches(r#""a":"#).count(), 1, "{answer:?}");
    assert_eq!(answer.json()["tags"]["a"], 3);
    scene.still_serves();
}

#[test]
fn ids_that_would_escape() {
    let scene = Scene::new(&[]);
    let mut owner = scene.hub.owner();
    let ids = [
        "a%00b",
        "..%2F..%2Fetc%2Fpasswd",
        "..%5C..%5C",
        "%2e%2e%2f",
        "a%0d%0ab",
        "a%2Fb%2Fc",
        "%ff%fe",
        "a%20b",
        "a%7Fb",
        &"x".repeat(129),
    ];
    for id in ids {
        for method in ["PUT", "GET", "DELETE"] {
            let body = (method == "PUT").then_some(r#"{"status":"enabled"}"#);
            let answer = owner.call(method, &format!("/devices/{id}"), body).unwrap();
            assert!(matches!(answer.status, 400 | 404), "{method} {id}: {answer:?}");
        }
    }
    for path in [
        "/devices/../twins/honest",
        "//devices//honest",
        "/devices/honest/../../../etc/passwd",
        "/%2e%2e/%2e%2e",
    ] {
        let answer = owner.call("GET", path, None).unwrap();
        assert!(matches!(answer.status, 400 | 404), "{path}: {answer:?}");
    }
    for id in ["honest/..", "../honest", "hon\u{0}est", "honest/a/b", "", "#", "+", "$iothub"] {
        let mut credentials = Credentials::new(scene.hub.hostname(), "honest", &scene.key);
        credentials.client = id.into();
        let stream = scene.open("plainMqttPort");
        assert!(Device::sign_in(stream, &credentials, true).is_err(), "{id:?} may sign in");
    }
    scene.still_serves();
}

#[test]
fn wrong_tokens_at_a_high_rate() {
    let scene = Scene::new(&[]);
    let host = scene.hub.hostname().to_owned();
    let key = "d3Jvbmcga2V5IHRoYXQgaXMgbm90IHRoZSBodWIncw==";
    let mut forger = scene.hub.owner().with_token(&sas(&host, key, Some("iothubowner"), now() + 3600));
    for i in 0..2_000 {
        let answer = forger.call("GET", "/devices", None).unwrap();
        assert!(matches!(answer.status, 401 | 429), "{i}: {answer:?}");
        assert!(!answer.body.contains(key), "{answer:?}");
    }
    let target = scene.hub.address("plainMqttPort");
    // All at once, as those that come too often wait for their answers.
    let forged = Credentials::new(&host, "honest", key).connect(true);
    let forgers: Vec<TcpStream> = (0..500)
        .map(|_| {
            let mut stream = open_from(9, target).unwrap();
            stream.write_all(&forged).unwrap();
            stream
        })
        .collect();
    for mut stream in forgers {
        let mut connack = [0; 4];
        stream.read_exact(&mut connack).unwrap();
        assert_eq!(connack, [0x20, 2, 0, 5]);
    }
    // A forger does not lock out those who come from elsewhere.
    let honest = Credentials::new(&host, "honest", &scene.key);
    Device::sign_in(open_from(20, target).unwrap(), &honest, true).unwrap();
}

#[test]
fn tokens_and_the_clock() {
    let scene = Scene::new(&["--clock-skew", "300s"]);
    let host = scene.hub.hostname().to_owned();
    let sign_in = |expiry: u64| {
        let mut credentials = Credentials::new(&host, "honest", &scene.key);
        credentials.password = sas(&format!("{host}/devices/honest"), &scene.key, None, expiry);
        Device::sign_in(scene.open("plainMqttPort"), &credentials, true).map(drop)
    };
    sign_in(now() - 100).unwrap();
    let refused = sign_in(now() - 600).unwrap_err();
    assert_eq!(refused.to_string(), "CONNACK 5");
    let owner_key = owner_key(&scene.hub);
    let late = sas(&host, &owner_key, Some("iothubowner"), now() - 600);
    let answer = scene.hub.owner().with_token(&late).call("GET", "/devices/honest", None).unwrap();
    self::refused(&answer, 401, "IotHubUnauthorizedAccess");
    scene.still_serves();
}

fn owner_key(hub: &Hub) -> String {
    let text = hub.ready["connectionString"].as_str().unwrap();
    text.split("SharedAccessKey=").nth(1).unwrap().to_owned()
}

#[test]
fn a_reader_that_never_reads_costs_bounded_memory() {
    let scene = Scene::new(&["--write-timeout", "1s"]);
    let key = scene.hub.owner().register("deaf");
    let credentials = Credentials::new(scene.hub.hostname(), "deaf", &key);
    let mut stream = scene.open("plainMqttPort");
    stream.write_all(&credentials.connect(true)).unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).unwrap();
    let mut body = 1_u16.to_be_bytes().to_vec();
    string(&mut body, "$iothub/twin/res/#");
    body.push(0);
    stream.write_all(&packet(0x82, &body)).unwrap();
    let mut get = Vec::new();
    string(&mut get, "$iothub/twin/GET/?$rid=1");
    let burst = packet(0x30, &get).repeat(2_000);
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    // Either the hub stops reading, and our write fails with a timeout, or it closes the connection.
    let stopped = (0..500).any(|_| stream.write_all(&burst).is_err());
    assert!(stopped, "the hub answers a client that never reads");
    scene.still_serves();
}

#[test]
fn the_service_door_answers_nonsense_in_its_own_words() {
    let scene = Scene::new(&[]);
    let mut owner = scene.hub.owner();
    let token = owner.token().to_owned();
    refused(&owner.with_token("").call("GET", "/devices", None).unwrap(), 401, "Message");
    refused(
        &owner.with_token(&token.replace("sig=", "sig=A")).call("GET", "/devices", None).unwrap(),
        401,
        "Message",
    );
    let raw = |text: String| Http::exchange(&mut scene.hub.owner(), text.as_bytes()).unwrap();
    let no_version =
        raw(format!("GET /devices/honest HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n"));
    assert_eq!(no_version.status, 400, "{no_version:?}");
    let huge_header =
        format!("GET /devices?{API} HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(1 << 20));
    let mut stream = scene.open("plainHttpPort");
    stream.write_all(huge_header.as_bytes()).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert!(matches!(owner.call("BREW", "/devices/honest", None).unwrap().status, 400 | 404 | 405));
    scene.still_serves();
}
