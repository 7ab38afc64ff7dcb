//! Who gets in, and what the others are told (device §1, §2.4).

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{token, Client, Hello, NotIn, TestHub, KEY, OTHER_KEY};
use ostler_hub::policies::CertificateAuthority;
use ostler_wire::mqtt::packet::Refusal;

async fn check(hub: &TestHub, name: &str, expected: Option<Refusal>, change: impl FnOnce(&mut Hello)) {
    let mut hello = Hello::new("pump-7");
    change(&mut hello);
    let outcome = Client::connect(hub.tcp().await, &hello).await.map(drop).err();
    assert_eq!(outcome, expected.map(NotIn::Refused), "{name}");
}

#[tokio::test]
async fn every_cause_has_its_code() {
    let hub = TestHub::start().await;
    let owner = hub.hub().policy("device").unwrap().primary.to_base64();
    let service = hub.hub().policy("service").unwrap().primary.to_base64();
    let own = "localhost/devices/pump-7";
    let password = |hello: &mut Hello, text: String| hello.password = Some(text);
    let no = Some(Refusal::NotAuthorized);
    check(&hub, "own key", None, |_| {}).await;
    check(&hub, "second key", None, |h| password(h, token(own, OTHER_KEY, 60, None))).await;
    check(&hub, "old username", None, |h| {
        h.username = Some("LOCALHOST/pump-7/api-version=2016-11-14".into())
    })
    .await;
    check(&hub, "raw username", None, |h| h.username = Some("localhost/pump-7".into())).await;
    check(&hub, "device policy", None, |h| {
        password(h, token("localhost/devices", &owner, 60, Some("device")))
    })
    .await;
    check(&hub, "slow clock", None, |h| password(h, token(own, KEY, -200, None))).await;
    check(&hub, "policy without the right", no, |h| {
        password(h, token("localhost/devices", &service, 60, Some("service")));
    })
    .await;
    check(&hub, "unknown policy", no, |h| password(h, token(own, KEY, 60, Some("nobody")))).await;
    check(&hub, "wrong key", no, |h| password(h, token(own, &owner, 60, None))).await;
    check(&hub, "expired", no, |h| password(h, token(own, KEY, -400, None))).await;
    check(&hub, "another device's token", no, |h| password(h, token("localhost/devices/off", KEY, 60, None)))
        .await;
    check(&hub, "no password", no, |h| h.password = None).await;
    check(&hub, "nonsense", no, |h| password(h, "secret".into())).await;
    check(&hub, "no username", no, |h| (h.username, h.password) = (None, None)).await;
    check(&hub, "malformed username", no, |h| h.username = Some("pump-7".into())).await;
    check(&hub, "another hub", no, |h| h.username = Some("other.example.net/pump-7/?api-version=1".into()))
        .await;
    check(&hub, "client id differs", no, |h| h.client_id = "off".into()).await;
    check(&hub, "a will elsewhere", no, |h| h.will = Some(("devices/off/messages/events/".into(), vec![])))
        .await;
    for (id, expected) in [("off", no), ("nobody", no), ("pump-7/valve", None), ("pump-7/none", no)] {
        check(&hub, id, expected, |h| *h = Hello::new(id)).await;
    }
}

#[tokio::test]
async fn failures_are_remembered_with_their_cause() {
    let hub = TestHub::start().await;
    check(&hub, "wrong", Some(Refusal::NotAuthorized), |h| h.client_id = "off".into()).await;
    let found = hub.hub().diagnose(&TestHub::id("off")).await.unwrap().last_failure.unwrap();
    assert_eq!(found.cause.to_string(), "the client id and the id in the username differ");
    assert_eq!(found.peer, Some([127, 0, 0, 1].into()));
}

#[tokio::test]
async fn another_version_of_mqtt_is_told_so() {
    let hub = TestHub::start().await;
    let mut io = hub.tcp().await;
    io.write_all(b"\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01a").await.unwrap();
    let mut answer = Vec::new();
    io.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, [0x20, 2, 0, 1]);
}

#[tokio::test]
async fn packets_behind_the_connect_are_not_lost() {
    let hub = TestHub::start().await;
    let hello = Hello::new("pump-7");
    let mut bytes = Vec::new();
    ostler_wire::mqtt::packet::Connect {
        client_id: &hello.client_id,
        clean_session: false,
        keep_alive_secs: 60,
        will: None,
        login: Some(ostler_wire::mqtt::packet::Login {
            username: hello.username.as_deref().unwrap(),
            password: hello.password.as_deref().map(str::as_bytes),
        }),
    }
    .encode(&mut bytes)
    .unwrap();
    bytes.extend_from_slice(&[0xc0, 0, 0xc0, 0]);
    let mut io = hub.tcp().await;
    io.write_all(&bytes).await.unwrap();
    let mut answer = [0; 8];
    io.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, [0x20, 2, 0, 0, 0xd0, 0, 0xd0, 0]);
}

#[tokio::test]
async fn over_both_versions_of_tls() {
    let hub = TestHub::start().await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let io = hub.tls_with(None, &[version]).await;
        Client::connect(io, &Hello::new("pump-7")).await.unwrap().disconnect().await;
    }
}

fn certificate(name: &str, issuer: Option<&Issuer<'_, KeyPair>>) -> (CertificateDer<'static>, KeyPair) {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let certificate = match issuer {
        Some(issuer) => params.signed_by(&key, issuer),
        None => params.self_signed(&key),
    };
    (certificate.unwrap().der().clone(), key)
}

fn private(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::try_from(key.serialize_der()).unwrap()
}

#[tokio::test]
async fn by_a_certificate_of_a_registered_authority() {
    let hub = TestHub::start().await;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(params, ca_key);
    let (leaf, key) = certificate("ca-device", Some(&issuer));
    let (other, other_key) = certificate("pump-7", Some(&issuer));
    let hello = Hello { password: None, ..Hello::new("ca-device") };

    let io = hub.tls(Some((vec![leaf.clone()], private(&key)))).await;
    let refused = Client::connect(io, &hello).await.map(drop);
    assert_eq!(refused, Err(NotIn::Refused(Refusal::NotAuthorized)), "no authority is registered yet");
    let cause = hub.hub().diagnose(&TestHub::id("ca-device")).await.unwrap().last_failure.unwrap().cause;
    assert!(cause.to_string().contains("no certificate authority is registered"), "{cause}");

    let authority = CertificateAuthority { name: "factory".into(), pem: ca.pem().into() };
    hub.hub().put_certificate_authority(authority).await.unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let io = hub.tls_with(Some((vec![leaf.clone()], private(&key))), &[version]).await;
        Client::connect(io, &hello).await.unwrap();
    }
    let io = hub.tls(Some((vec![other], private(&other_key)))).await;
    let refused = Client::connect(io, &hello).await.map(drop);
    assert_eq!(refused, Err(NotIn::Refused(Refusal::NotAuthorized)), "the name is another device's");
}

#[tokio::test]
async fn by_a_self_signed_certificate_of_version_1() {
    // One SDK's own tests present such a certificate, which webpki does not read.
    const PEM: &[u8] = include_bytes!("data/x509-v1.pem");
    const THUMBPRINT: &str = "BB:EC:04:E1:7B:C5:29:C1:1A:44:D9:64:2B:BC:14:D5:AD:12:1C:25";
    let hub = TestHub::start().await;
    let body = format!(
        r#"{{"deviceId": "old-pump", "authentication": {{"type": "selfSigned",
            "x509Thumbprint": {{"primaryThumbprint": "{}"}}}}}}"#,
        THUMBPRINT.replace(':', "")
    );
    let id = TestHub::id("old-pump");
    let identity = ostler_wire::rest::identity::read_identity(&id, body.as_bytes()).unwrap();
    let action = ostler_hub::registry::Action::Create;
    let operation = ostler_hub::registry::Operation { id, action, identity, twin: Default::default() };
    hub.hub().apply(operation).await.unwrap();
    let hello = Hello { password: None, ..Hello::new("old-pump") };
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let chain = vec![CertificateDer::from_pem_slice(PEM).unwrap()];
        let io = hub.tls_with(Some((chain, PrivateKeyDer::from_pem_slice(PEM).unwrap())), &[version]).await;
        Client::connect(io, &hello).await.unwrap();
    }
    let io = hub.tls(None).await;
    let refused = Client::connect(io, &hello).await.map(drop);
    assert_eq!(refused, Err(NotIn::Refused(Refusal::NotAuthorized)), "without the certificate");
}
