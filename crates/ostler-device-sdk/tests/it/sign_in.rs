//! Getting in: TLS, WebSocket, proxies, certificates, keys, tokens.

use std::time::Duration;

use ostler_core::identity::SymmetricKey;
use ostler_core::sas;
use ostler_core::time::Timestamp;
use ostler_device_sdk::{
    Cause, ConnectError, ConnectionStatus, Protocol, Proxy, RetryPolicy, SetupError, WhenRefused,
};
use ostler_hub::policies::CertificateAuthority;
use ostler_hub::registry::Action;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use ring::digest::{digest, SHA256};

use crate::support::{hasty, soon, until, Line, TestHub, TestProxy, OTHER_KEY};

#[tokio::test]
async fn over_tls_and_websocket_and_plain_on_this_machine() {
    let hub = TestHub::start().await;
    let plain = hub.running.addresses().plain_mqtt.unwrap().port();
    for (name, builder) in [
        ("TLS", hub.builder("pump-7")),
        ("WebSocket", hub.builder("pump-7").protocol(Protocol::MqttWebSocket)),
        ("plain", hub.builder("pump-7").plain().mqtt_port(plain)),
        ("module", hub.builder("pump-7/valve")),
    ] {
        let client = builder.product_info("pump/1").model_id("dtmi:a:B;1").build().unwrap();
        assert_eq!(client.status(), ConnectionStatus::Idle);
        soon(client.connect()).await.unwrap();
        assert_eq!(client.status(), ConnectionStatus::Connected, "{name}");
        soon(client.send("hello")).await.unwrap();
        let closed = soon(client.close(Duration::from_secs(5))).await;
        assert_eq!((closed.unsent, client.status()), (0, ConnectionStatus::Closed), "{name}");
        assert_eq!(soon(client.connect()).await, Err(ConnectError::Closed));
    }
}

#[tokio::test]
async fn a_wrong_key_is_tried_again_unless_the_policy_says_otherwise() {
    let hub = TestHub::start().await;
    let connection = hub.connection_with("pump-7", &format!("SharedAccessKey={OTHER_KEY}"));
    let client = hub.builder_of(&connection).build().unwrap();
    let mut changes = client.status_changes();
    let connecting = client.clone();
    let connecting = tokio::spawn(async move { connecting.connect().await });
    let refused = |status| {
        matches!(
            status,
            ConnectionStatus::Disconnected { cause: Cause::NotAuthorized, next_attempt: Some(_) }
        )
    };
    until(&mut changes, refused).await;
    until(&mut changes, refused).await;
    let text = client.last_problem();
    assert!(text.is_empty() || text.contains("clock says 20"), "{text}");

    client.set_retry(RetryPolicy { when_refused: WhenRefused::GiveUp, ..hasty() });
    let error = soon(connecting).await.unwrap().unwrap_err();
    let ConnectError::Refused { cause: Cause::NotAuthorized, detail } = &error else { panic!("{error:?}") };
    assert!(detail.contains("clock says 20"), "{detail}");
    assert!(matches!(client.status(), ConnectionStatus::Refused { cause: Cause::NotAuthorized }));
    let error = soon(client.send("x")).await.unwrap_err();
    assert_eq!(error, ostler_device_sdk::SendError::Refused(Cause::NotAuthorized));
    let again = soon(client.connect()).await.unwrap_err();
    assert!(matches!(again, ConnectError::Refused { cause: Cause::NotAuthorized, .. }));
}

#[tokio::test]
async fn an_untrusted_hub_is_final_and_says_what_to_do() {
    let hub = TestHub::start().await;
    let other = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let connection = hub.connection("pump-7").parse().unwrap();
    let client = ostler_device_sdk::Client::builder(connection)
        .mqtt_port(hub.running.addresses().mqtt.port())
        .root_ca_pem(other.cert.pem())
        .without_system_roots()
        .build()
        .unwrap();
    let error = soon(client.connect()).await.unwrap_err();
    let ConnectError::Refused { cause: Cause::Tls, detail } = &error else { panic!("{error:?}") };
    assert!(detail.contains("OSTLER_CA_FILE"), "{detail}");
}

#[tokio::test]
async fn nobody_listening_uses_up_the_budget() {
    let hub = TestHub::start().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = hub.builder("pump-7").mqtt_port(silent.port()).retry(RetryPolicy::none()).build().unwrap();
    let mut changes = client.status_changes();
    let error = soon(client.connect()).await.unwrap_err();
    let ConnectError::Refused { cause: Cause::RetryExpired, detail } = &error else { panic!("{error:?}") };
    assert!(detail.contains("refused"), "{detail}");
    assert_eq!(soon(changes.next()).await, Some(ConnectionStatus::Connecting { attempt: 1 }));
    until(&mut changes, |status| {
        matches!(status, ConnectionStatus::Disconnected { cause: Cause::NoNetwork, next_attempt: None })
    })
    .await;
}

#[tokio::test]
async fn plain_text_does_not_leave_this_machine() {
    let hub = TestHub::start().await;
    let connection = "HostName=192.0.2.1;DeviceId=d;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==";
    let client = hub.builder_of(connection).plain().build().unwrap();
    let error = soon(client.connect()).await.unwrap_err().to_string();
    assert!(error.contains("not this machine"), "{error}");
}

fn certificate(name: &str, issuer: Option<&Issuer<'_, KeyPair>>) -> (rcgen::Certificate, KeyPair) {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let certificate = match issuer {
        Some(issuer) => params.signed_by(&key, issuer),
        None => params.self_signed(&key),
    };
    (certificate.unwrap(), key)
}

#[tokio::test]
async fn by_a_self_signed_certificate() {
    let hub = TestHub::start().await;
    let (certificate, key) = certificate("anything", None);
    let thumbprint: String =
        digest(&SHA256, certificate.der()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let body = format!(
        r#"{{"deviceId": "x-pump", "authentication": {{"type": "selfSigned",
            "x509Thumbprint": {{"primaryThumbprint": "{thumbprint}"}}}}}}"#
    );
    hub.apply("x-pump", Action::Create, &body).await;
    let connection = hub.connection_with("x-pump", "x509=true");
    assert_eq!(
        hub.builder_of(&connection).build().err(),
        Some(SetupError::CertificateMissing),
        "a certificate is asked for"
    );
    for protocol in [Protocol::Mqtt, Protocol::MqttWebSocket] {
        let builder = hub.builder_of(&connection).protocol(protocol);
        let client = builder.client_certificate_pem(certificate.pem(), key.serialize_pem()).build().unwrap();
        soon(client.send("hello")).await.unwrap();
        client.close(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn by_a_certificate_of_a_registered_authority() {
    let hub = TestHub::start().await;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let authority = CertificateAuthority { name: "factory".into(), pem: ca.pem().into() };
    hub.hub().put_certificate_authority(authority).await.unwrap();
    let issuer = Issuer::new(params, ca_key);
    let connection = hub.connection_with("ca-device", "x509=true");
    let final_refusal = RetryPolicy { when_refused: WhenRefused::GiveUp, ..hasty() };
    for (name, allowed) in [("ca-device", true), ("pump-7", false)] {
        let (leaf, key) = certificate(name, Some(&issuer));
        let builder = hub.builder_of(&connection).retry(final_refusal.clone());
        let client = builder.client_certificate_pem(leaf.pem(), key.serialize_pem()).build().unwrap();
        let outcome = soon(client.connect()).await;
        assert_eq!(outcome.is_ok(), allowed, "{name}: {outcome:?}");
    }
}

#[tokio::test]
async fn through_a_proxy_with_a_login() {
    let hub = TestHub::start().await;
    let proxy = TestProxy::start(Some("Basic dXNlcjpzZWNyZXQ=")).await;
    let to = |password: &str| Proxy::new("127.0.0.1", proxy.address.port()).login("user", password);
    for protocol in [Protocol::Mqtt, Protocol::MqttWebSocket] {
        let client = hub.builder("pump-7").protocol(protocol).proxy(to("secret")).build().unwrap();
        soon(client.send("hello")).await.unwrap();
    }
    let addresses = hub.running.addresses();
    let expected = [addresses.mqtt.port(), addresses.https.port()]
        .map(|port| format!("CONNECT localhost:{port} HTTP/1.1"));
    assert_eq!(*proxy.asked.lock().unwrap(), expected);

    let client = hub.builder("pump-7").proxy(to("wrong")).retry(RetryPolicy::none()).build().unwrap();
    let error = soon(client.connect()).await.unwrap_err().to_string();
    assert!(error.contains("407") && !error.contains("wrong"), "{error}");
}

#[tokio::test]
async fn a_token_is_renewed_in_time_and_nothing_is_lost() {
    let hub = TestHub::start().await;
    let line = Line::to(hub.running.addresses().mqtt).await;
    let builder = hub.builder("pump-7").mqtt_port(line.port());
    let client = builder.token_lifetime(Duration::from_secs(2)).build().unwrap();
    let mut changes = client.status_changes();
    soon(client.connect()).await.unwrap();
    until(&mut changes, ConnectionStatus::is_connected).await;
    let gone = until(&mut changes, |status| !status.is_connected()).await;
    assert!(matches!(gone, ConnectionStatus::Disconnected { cause: Cause::TokenExpired, .. }), "{gone:?}");
    until(&mut changes, ConnectionStatus::is_connected).await;
    soon(client.send("still here")).await.unwrap();
    assert!(line.made() >= 2);
}

#[tokio::test]
async fn a_ready_made_token_works_until_it_expires_and_can_be_replaced() {
    let hub = TestHub::start().await;
    let key = SymmetricKey::from_base64(crate::support::KEY).unwrap();
    let token = |secs| sas::sign("localhost/devices/pump-7", &key, Timestamp::from_unix_secs(secs), None);
    let old = hub.connection_with("pump-7", &format!("SharedAccessSignature={}", token(1_000_000)));
    let client = hub.builder_of(&old).build().unwrap();
    let error = soon(client.connect()).await.unwrap_err();
    let ConnectError::Refused { cause: Cause::BadCredential, detail } = &error else { panic!("{error:?}") };
    assert!(detail.contains("expired"), "{detail}");
    assert!(client.set_token(token(4_000_000_000)));
    soon(client.connect()).await.unwrap();
}

#[tokio::test]
async fn settings_that_make_no_sense_are_named() {
    let hub = TestHub::start().await;
    let check = |builder: ostler_device_sdk::Builder, expected: &str| {
        let text = builder.build().unwrap_err().to_string();
        assert!(text.starts_with(expected), "{text}");
    };
    let builder = || hub.builder("pump-7");
    check(builder().keep_alive(Duration::from_secs(2000)), "keep_alive");
    check(builder().token_lifetime(Duration::ZERO), "token_lifetime");
    check(builder().product_info("a\nb"), "product_info");
    check(builder().plain().proxy(Proxy::new("p", 1)), "plain");
    check(builder().root_ca_pem("nonsense"), "cannot read certificate authorities from root_ca_pem");
    check(builder().client_certificate_pem("", ""), "the client certificate cannot be used");
}

#[test]
fn a_runtime_is_asked_for() {
    let connection = "HostName=h;DeviceId=d;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==".parse().unwrap();
    let refused = ostler_device_sdk::Client::builder(connection).plain().build();
    assert_eq!(refused.err(), Some(SetupError::NoRuntime));
}

/// Runs the client's half of [`trust_adds_up_and_may_come_from_the_environment`] in a process of its own, since variables
/// belong to processes.
async fn connects_with(hub: &TestHub, variables: Vec<(&'static str, String)>) -> bool {
    let connection = hub.connection("pump-7");
    let port = hub.running.addresses().mqtt.port().to_string();
    let child = tokio::task::spawn_blocking(move || {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sign_in::trust_adds_up_and_may_come_from_the_environment"])
            .env_remove("SSL_CERT_FILE")
            .env_remove("OSTLER_CA_FILE")
            .env("TEST_CONNECTION", connection)
            .env("TEST_PORT", port)
            .envs(variables)
            .output()
            .unwrap()
    });
    let output = soon(child).await.unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("running 1 test"), "{output:?}");
    output.status.success()
}

/// The client's half: trusts another authority by its settings, and whom the environment names.
async fn connect_to(connection: &str) {
    let port = std::env::var("TEST_PORT").unwrap().parse().unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["other".into()]).unwrap();
    let builder = ostler_device_sdk::Client::builder(connection.parse().unwrap());
    let client = builder.mqtt_port(port).root_ca_pem(other.cert.pem()).build().unwrap();
    soon(client.connect()).await.unwrap();
}

#[tokio::test]
async fn trust_adds_up_and_may_come_from_the_environment() {
    if let Ok(connection) = std::env::var("TEST_CONNECTION") {
        return connect_to(&connection).await;
    }
    let hub = TestHub::start().await;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, pem: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let ca = write("ca.pem", hub.running.ca_pem().unwrap());
    let stranger = rcgen::generate_simple_self_signed(vec!["stranger".into()]).unwrap();
    let stranger = write("stranger.pem", &stranger.cert.pem());
    assert!(!connects_with(&hub, vec![]).await);
    assert!(!connects_with(&hub, vec![("OSTLER_CA_FILE", stranger.clone())]).await);
    assert!(connects_with(&hub, vec![("OSTLER_CA_FILE", ca.clone())]).await);
    assert!(connects_with(&hub, vec![("SSL_CERT_FILE", ca.clone())]).await);
    assert!(connects_with(&hub, vec![("SSL_CERT_FILE", stranger), ("OSTLER_CA_FILE", ca)]).await);
}
