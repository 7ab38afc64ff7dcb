//! Decisions on sign-ins.

use super::*;
use crate::identity::{AuthenticationSpec, FreshSecrets, IdentitySpec, Thumbprint};
use crate::sas::sign;

const NOW: Timestamp = Timestamp::from_unix_secs(1_800_000_000);

fn key(seed: u8) -> SymmetricKey {
    SymmetricKey::from([seed; 32])
}

fn policies() -> Vec<Policy> {
    BUILT_IN_POLICIES
        .iter()
        .zip(10u8..)
        .map(|((name, rights), seed)| Policy {
            name: (*name).into(),
            rights: *rights,
            primary: key(seed),
            secondary: key(seed + 100),
        })
        .collect()
}

fn context(policies: &[Policy]) -> Context<'_> {
    Context { policies, is_host: &|host| host.eq_ignore_ascii_case("hub.local"), skew_secs: 300, now: NOW }
}

fn identity(authentication: AuthenticationSpec) -> Identity {
    let fresh = FreshSecrets { primary: [1; 32], secondary: [2; 32], etag_start: 0 };
    let spec = IdentitySpec { authentication, ..IdentitySpec::default() };
    Identity::create(spec, &fresh, NOW).unwrap()
}

fn certificate(name: &str, chain: Result<(), String>) -> PeerCertificate {
    PeerCertificate {
        sha1: [0xab; 20],
        sha256: [0xcd; 32],
        common_name: Some(name.into()),
        not_before: NOW.plus_secs(-3600),
        not_after: NOW.plus_secs(3600),
        chain,
    }
}

#[track_caller]
fn check(
    id: &str,
    identity: &Identity,
    credential: Credential<'_>,
    expected: Result<GrantScope, AuthFailure>,
) {
    let policies = policies();
    let id = EntityId::parse(id).unwrap();
    let result = sign_in(&id, identity, identity, credential, context(&policies));
    assert_eq!(result.map(|grant| grant.scope), expected);
}

fn token(text: &str) -> Credential<'_> {
    Credential { token: Some(text), certificate: None }
}

#[test]
fn devices_by_token() {
    let sas = identity(AuthenticationSpec::Unspecified);
    let soon = NOW.plus_secs(60);
    let make = |resource: &str, seed, expires, policy| sign(resource, &key(seed), expires, policy);
    check("d", &sas, token(&make("hub.local/devices/d", 1, soon, None)), Ok(GrantScope::Device));
    check("d", &sas, token(&make("hub.local/devices/d", 2, soon, None)), Ok(GrantScope::Device));
    check("d/m", &sas, token(&make("hub.local/devices/d/modules/m", 1, soon, None)), Ok(GrantScope::Module));
    check("d", &sas, token(&make("hub.local/devices/d", 9, soon, None)), Err(AuthFailure::WrongKey));
    check("d", &sas, token(&make("hub.local/devices/e", 1, soon, None)), Err(AuthFailure::WrongScope));
    check("d", &sas, token(&make("other/devices/d", 1, soon, None)), Err(AuthFailure::WrongScope));
    let late = NOW.plus_secs(-300);
    let expired = AuthFailure::Expired { by_secs: 300 };
    check("d", &sas, token(&make("hub.local/devices/d", 1, late, None)), Err(expired));
    let skewed = NOW.plus_secs(-299);
    check("d", &sas, token(&make("hub.local/devices/d", 1, skewed, None)), Ok(GrantScope::Device));
    check("d", &sas, token("x"), Err(AuthFailure::Malformed(SasError::Prefix)));
    let expected = "a token signed with its own key (sas)";
    check("d", &sas, Credential::default(), Err(AuthFailure::NoCredential { expected }));
    check("d", &sas, token(&make("hub.local/devices", 12, soon, Some("device"))), Ok(GrantScope::Hub));
    check("d", &sas, token(&make("hub.local", 10, soon, Some("iothubowner"))), Ok(GrantScope::Hub));
    let lacks = AuthFailure::MissingRight { policy: "service".into(), right: "DeviceConnect" };
    check("d", &sas, token(&make("hub.local", 11, soon, Some("service"))), Err(lacks));
    let unknown = AuthFailure::UnknownPolicy("nobody".into());
    check("d", &sas, token(&make("hub.local", 11, soon, Some("nobody"))), Err(unknown));
}

#[test]
fn disabled_devices() {
    let mut sas = identity(AuthenticationSpec::Unspecified);
    sas.status = Status::Disabled;
    let right = sign("hub.local/devices/d", &key(1), NOW.plus_secs(60), None);
    check("d", &sas, token(&right), Err(AuthFailure::Disabled));
    let wrong = sign("hub.local/devices/d", &key(9), NOW.plus_secs(60), None);
    check("d", &sas, token(&wrong), Err(AuthFailure::WrongKey));
}

#[test]
fn devices_by_certificate() {
    let thumbprint = Thumbprint::parse(&"AB".repeat(20)).unwrap();
    let own = identity(AuthenticationSpec::SelfSigned { primary: None, secondary: Some(thumbprint) });
    fn shown(certificate: &PeerCertificate) -> Credential<'_> {
        Credential { token: None, certificate: Some(certificate) }
    }
    let good = certificate("whatever", Err("self-signed".into()));
    check("d", &own, shown(&good), Ok(GrantScope::Device));
    check("d", &own, shown(&PeerCertificate { sha1: [0; 20], ..good.clone() }), Err(AuthFailure::Thumbprint));
    let over = PeerCertificate { not_after: NOW.plus_secs(-301), ..good.clone() };
    let dates = AuthFailure::CertificateDates { not_before: over.not_before, not_after: over.not_after };
    check("d", &own, shown(&over), Err(dates));
    let expected = "a certificate with a registered thumbprint (selfSigned)";
    let text = sign("hub.local/devices/d", &key(1), NOW.plus_secs(60), None);
    check("d", &own, token(&text), Err(AuthFailure::WrongType { expected }));

    let issued = identity(AuthenticationSpec::CertificateAuthority);
    check("d", &issued, shown(&certificate("d", Ok(()))), Ok(GrantScope::Device));
    check("d/m", &issued, shown(&certificate("d/m", Ok(()))), Ok(GrantScope::Module));
    let other = AuthFailure::CommonName { found: "e".into() };
    check("d", &issued, shown(&certificate("e", Ok(()))), Err(other));
    let untrusted = certificate("d", Err("unknown issuer".into()));
    check("d", &issued, shown(&untrusted), Err(AuthFailure::Chain("unknown issuer".into())));
}

#[test]
fn back_ends() {
    let policies = policies();
    let check = |policy: Option<&str>, seed, path: &str, rights, expected: Result<&str, AuthFailure>| {
        let text = sign("hub.local", &key(seed), NOW.plus_secs(60), policy);
        let result = authorize(&text, path, rights, context(&policies));
        assert_eq!(result.map(|grant| grant.policy.to_string()), expected.map(str::to_owned));
    };
    check(Some("service"), 11, "twins/d", Rights::SERVICE_CONNECT, Ok("service"));
    check(Some("registryRead"), 13, "devices/d", Rights::REGISTRY_READ, Ok("registryRead"));
    check(Some("registryReadWrite"), 114, "devices/d", Rights::REGISTRY_READ, Ok("registryReadWrite"));
    let lacks = |policy: &str, right| Err(AuthFailure::MissingRight { policy: policy.into(), right });
    check(
        Some("registryRead"),
        13,
        "devices/d",
        Rights::REGISTRY_WRITE,
        lacks("registryRead", "RegistryWrite"),
    );
    check(Some("device"), 12, "devices/d", Rights::REGISTRY_READ, lacks("device", "RegistryRead"));
    check(Some("service"), 12, "twins/d", Rights::SERVICE_CONNECT, Err(AuthFailure::WrongKey));
    check(None, 11, "twins/d", Rights::SERVICE_CONNECT, Err(AuthFailure::NotAPolicy));
}

#[test]
fn right_names() {
    assert_eq!(Rights::ALL.names(), ["RegistryWrite", "ServiceConnect", "DeviceConnect"]);
    assert_eq!(Rights::parse("registryread"), Some(Rights::REGISTRY_READ));
    assert_eq!(Rights::parse("x"), None);
}
