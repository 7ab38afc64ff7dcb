//! Handlers of Ostler's own routes under `/ostler/v1/`. Each has three moves: take the request apart, call the hub, write
//! down what comes back.

use super::answer::{empty, json, ndjson, ok, Answer, Failure};
use super::events::{lines, Filter};
use super::service::Context;
use crate::config::Compat;
use http::{header, HeaderValue, StatusCode};
use ostler_core::auth::Policy;
use ostler_core::id::{DeviceId, EntityId, ModuleId};
use ostler_core::json::{write_string, ObjectWriter};
use ostler_core::record::Interest;
use ostler_hub::diagnosis::Diagnosis;
use ostler_hub::policies::{CertificateAuthority, WhichKey};
use ostler_wire::rest::error::ErrorCode;
use ostler_wire::rest::extension::{read_policy, read_text, write_policy};
use ostler_wire::rest::identity::write_list;
use std::path::Path;
use x509_parser::pem::parse_x509_pem;

/// Follows the hub's live stream until either side ends it.
pub(super) fn events(context: &Context<'_>) -> Result<Answer, Failure> {
    let (types, device) = (context.query.value("types"), context.query.value("deviceId"));
    let filter = Filter::new(types.as_deref(), device.as_deref())
        .map_err(|text| Failure::new(ErrorCode::ArgumentInvalid, text))?;
    let stream = lines(context.app.hub.events().subscribe(), filter, context.app.stopping.clone());
    Ok(ndjson(stream))
}

/// The query may name a module of the device.
pub(super) async fn diagnosis(context: &Context<'_>, id: &DeviceId) -> Result<Answer, Failure> {
    let id = match context.query.value("moduleId").filter(|module| !module.is_empty()) {
        None => EntityId::from(id),
        Some(module) => {
            let module = ModuleId::new(&module)
                .map_err(|error| Failure::new(ErrorCode::ArgumentInvalid, format!("moduleId: {error}")))?;
            EntityId::of_module(id, &module)
        }
    };
    let diagnosis = context.app.hub.diagnose(&id).await?;
    Ok(ok(1024, |out| write_diagnosis(&diagnosis, out)))
}

fn write_diagnosis(diagnosis: &Diagnosis, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::new(out);
    object.string("deviceId", diagnosis.id.device());
    if let Some(module) = diagnosis.id.module() {
        object.string("moduleId", module);
    }
    object.string("summary", &diagnosis.summary);
    write_list(&findings(diagnosis), object.key("findings"), |finding, out| {
        let mut object = ObjectWriter::new(out);
        object.string("severity", finding.severity).string("message", &finding.message);
        object.string_or_null("advice", finding.advice.as_deref());
        object.end();
    });
    object.bool("registered", diagnosis.registered).bool("enabled", diagnosis.enabled);
    object.string_or_null("authenticationType", diagnosis.authentication);
    object.bool("connected", diagnosis.connected);
    object.time("connectionStateUpdatedTime", diagnosis.activity.connection_updated);
    object.time("lastActivityTime", diagnosis.activity.last_activity);
    let heard: Vec<&str> = INTERESTS
        .iter()
        .filter(|(interest, _)| diagnosis.subscriptions.get(*interest).is_some())
        .map(|(_, name)| *name)
        .collect();
    write_list(&heard, object.key("subscriptions"), |name, out| write_string(name, out));
    if let Some(end) = diagnosis.last_end {
        let mut inner = object.object("lastDisconnect");
        inner.time("time", end.at).string("reason", end.reason.name());
        inner.end();
    }
    if let Some(failure) = &diagnosis.last_failure {
        let mut inner = object.object("lastRefusedSignIn");
        inner.time("time", failure.at).string("cause", &failure.cause.to_string());
        inner.string_or_null("peer", failure.peer.map(|peer| peer.to_string()).as_deref());
        inner.count("count", failure.count);
        inner.end();
    }
    object.end();
}

const INTERESTS: [(Interest, &str); 5] = [
    (Interest::Methods, "methods"),
    (Interest::TwinAnswers, "twinAnswers"),
    (Interest::DesiredChanges, "desiredChanges"),
    (Interest::Messages, "messages"),
    (Interest::Inputs, "inputs"),
];

struct Finding {
    severity: &'static str,
    message: String,
    advice: Option<String>,
}

/// The explanation first, then what else is worth knowing.
fn findings(diagnosis: &Diagnosis) -> Vec<Finding> {
    let severity = match (diagnosis.connected, diagnosis.registered && diagnosis.enabled) {
        (true, _) => "ok",
        (false, true) => "warning",
        (false, false) => "error",
    };
    let advice = (!diagnosis.connected).then(|| diagnosis.advice.clone());
    let mut findings = vec![Finding { severity, message: diagnosis.summary.clone(), advice }];
    if diagnosis.connected && diagnosis.subscriptions.get(Interest::Methods).is_none() {
        findings.push(Finding {
            severity: "info",
            message: "It has not subscribed to direct methods; calls are answered with 404103.".into(),
            advice: Some("Set a method handler on the device before calling it.".into()),
        });
    }
    if let (true, Some(failure)) = (diagnosis.connected, &diagnosis.last_failure) {
        findings.push(Finding {
            severity: "info",
            message: format!("A sign-in with its name was refused at {}: {}.", failure.at, failure.cause),
            advice: None,
        });
    }
    findings
}

fn policy_answer(status: StatusCode, policy: &Policy) -> Answer {
    let mut body = Vec::with_capacity(256);
    write_policy(policy, &mut body);
    private(json(status, body))
}

/// Keys are not to be kept by anything between.
fn private(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

pub(super) fn list_policies(context: &Context<'_>) -> Answer {
    let policies = context.app.hub.policies();
    private(ok(2048, |out| write_list(&policies, out, write_policy)))
}

pub(super) fn get_policy(context: &Context<'_>, name: &str) -> Result<Answer, Failure> {
    Ok(policy_answer(StatusCode::OK, &context.app.hub.policy(name)?))
}

pub(super) async fn create_policy(context: &Context<'_>, body: &[u8]) -> Result<Answer, Failure> {
    let spec = read_policy(body)?;
    let made = context.app.hub.create_policy(&spec.name, spec.rights, spec.primary, spec.secondary).await?;
    Ok(policy_answer(StatusCode::CREATED, &made))
}

pub(super) async fn delete_policy(context: &Context<'_>, name: &str) -> Result<Answer, Failure> {
    context.app.hub.delete_policy(name).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) async fn rotate_policy_key(context: &Context<'_>, name: &str) -> Result<Answer, Failure> {
    let which = match context.query.value("key").as_deref() {
        Some("primary") => WhichKey::Primary,
        Some("secondary") => WhichKey::Secondary,
        _ => {
            let text = "the query parameter key must be primary or secondary";
            return Err(Failure::new(ErrorCode::ArgumentInvalid, text));
        }
    };
    Ok(policy_answer(StatusCode::OK, &context.app.hub.rotate_policy(name, which).await?))
}

fn write_authority(authority: &CertificateAuthority, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::new(out);
    object.string("name", &authority.name);
    if let Ok((_, pem)) = parse_x509_pem(authority.pem.as_bytes()) {
        if let Ok(certificate) = pem.parse_x509() {
            object.string("subject", &certificate.subject().to_string());
            let validity = certificate.validity();
            let time = |secs: i64| ostler_core::time::Timestamp::from_unix_secs(secs);
            object.time("notBefore", time(validity.not_before.timestamp()));
            object.time("notAfter", time(validity.not_after.timestamp()));
        }
    }
    object.string("pem", &authority.pem);
    object.end();
}

pub(super) fn list_authorities(context: &Context<'_>) -> Answer {
    let authorities = context.app.hub.certificate_authorities();
    ok(authorities.len() * 2048 + 2, |out| write_list(&authorities, out, write_authority))
}

pub(super) fn get_authority(context: &Context<'_>, name: &str) -> Result<Answer, Failure> {
    let authorities = context.app.hub.certificate_authorities();
    let found = authorities.into_iter().find(|authority| &*authority.name == name);
    let authority = found.ok_or_else(|| ostler_hub::Error::NameUnknown(name.to_owned()))?;
    Ok(ok(2048, |out| write_authority(&authority, out)))
}

pub(super) async fn put_authority(context: &Context<'_>, name: &str, body: &[u8]) -> Result<Answer, Failure> {
    let pem = read_text(body, "pem")?;
    check_authority(&pem).map_err(|text| Failure::new(ErrorCode::ArgumentInvalid, text))?;
    let authority = CertificateAuthority { name: name.into(), pem: pem.into() };
    context.app.hub.put_certificate_authority(authority.clone()).await?;
    Ok(ok(2048, |out| write_authority(&authority, out)))
}

/// One certificate that may issue others.
fn check_authority(pem: &str) -> Result<(), &'static str> {
    let (rest, block) = parse_x509_pem(pem.as_bytes()).map_err(|_| "pem is not PEM text")?;
    if block.label != "CERTIFICATE" {
        return Err("pem holds something other than a certificate");
    }
    if !rest.trim_ascii().is_empty() {
        return Err("pem holds more than one certificate; register each authority by itself");
    }
    let certificate = block.parse_x509().map_err(|_| "pem does not hold an X.509 certificate")?;
    if !certificate.is_ca() {
        return Err("the certificate is not one of an authority (basic constraints CA: TRUE)");
    }
    Ok(())
}

pub(super) async fn delete_authority(context: &Context<'_>, name: &str) -> Result<Answer, Failure> {
    context.app.hub.delete_certificate_authority(name).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) async fn backup(context: &Context<'_>, body: &[u8]) -> Result<Answer, Failure> {
    let path = read_text(body, "path")?;
    if !Path::new(&path).is_absolute() {
        let text = "path must be absolute: the hub's working directory is not the caller's";
        return Err(Failure::new(ErrorCode::ArgumentInvalid, text));
    }
    // Who may make backups may know why one failed.
    let failed = |error: ostler_store::StoreError| {
        Failure::new(ErrorCode::InvalidOperation, error.to_string()).with_status(StatusCode::CONFLICT)
    };
    let records = crate::backup::copy(context.app, Path::new(&path)).await.map_err(failed)?;
    Ok(ok(128, |out| {
        let mut object = ObjectWriter::new(out);
        object.string("path", &path).count("records", records);
        object.end();
    }))
}

pub(super) fn status(context: &Context<'_>) -> Answer {
    let app = context.app;
    let (counts, store) = (app.hub.counts(), app.hub.store().status());
    ok(512, |out| {
        let mut object = ObjectWriter::new(out);
        object.string("product", "ostler").string("version", env!("CARGO_PKG_VERSION"));
        object.string("hostname", &app.config.hostname);
        object.string("compat", if app.config.compat == Compat::Strict { "strict" } else { "extended" });
        object.time("time", app.hub.now());
        object.count("uptimeSeconds", app.started.elapsed().as_secs());
        let not_ready = crate::ops::not_ready(app);
        object.bool("ready", not_ready.is_none()).string_or_null("notReadyReason", not_ready.as_deref());
        object.count("devices", counts.devices).count("disabledDevices", counts.disabled);
        object.count("modules", counts.modules);
        object.count("connected", app.hub.connected_count() as u64);
        let mut inner = object.object("store");
        inner.count("commits", store.commits).count("changes", store.changes);
        inner.count("waiting", store.waiting).count("memoryBytes", store.memory_bytes);
        inner.end();
        object.end();
    })
}
