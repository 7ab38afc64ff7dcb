//! What this client sends beside what Azure's own service SDKs send, recorded from Python `azure-iot-hub` 2.7.0 and Node
//! `azure-iothub` 1.16.6 by the two programs in `golden/`.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use ostler_service_sdk::{
    Authentication, BulkEntry, Client, Configuration, ConfigurationContent, ConfigurationQueries, Device,
    Error, IfMatch, ImportMode, JobWork, JsonObject, MethodCall, Module, NewJob, Status, TwinPatch,
};
use serde_json::{json, Value};

use crate::support::{answer, device_id, entity, Hub, Seen};

const RECORDED: [(&str, &str); 2] =
    [("python", include_str!("golden/python.jsonl")), ("node", include_str!("golden/node.jsonl"))];
const HEADERS: [&str; 4] = ["if-match", "x-ms-max-item-count", "x-ms-continuation", "content-type"];

/// The call that `operation` of the recording stands for.
async fn call(hub: &Client, operation: &str) -> Result<(), Error> {
    let (pump, valve) = (device_id("pump-7"), "valve".parse()?);
    let patch = TwinPatch { tags: Some(json!({ "site": "A" })), desired: Some(json!({ "interval": 30 })) };
    let lock = MethodCall::new("lockDoor").with_payload(json!({ "delay": 5 }));
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_769_828_400);
    let fan = JsonObject::from_iter([("properties.desired.fan".to_owned(), json!(2))]);
    let mut fans =
        Configuration::new("fans-1", ConfigurationContent::devices(fan.clone()), "tags.site='A'", 10);
    let etag = |etag: &str| IfMatch::Etag(etag.into());
    match operation {
        "create_device" => hub.create_device(&Device::new("pump-7")).await.map(drop),
        "update_device" => {
            let keys =
                ["a2V5MWtleTFrZXkxa2V5MQ==", "a2V5MmtleTJrZXkya2V5Mg=="].map(|key| Some(key.to_owned()));
            let [primary, secondary] = keys;
            let device = Device {
                status: Some(Status::Disabled),
                authentication: Some(Authentication::symmetric(primary, secondary)),
                ..Device::new("pump-7")
            };
            hub.update_device(&device, etag("MQ==")).await.map(drop)
        }
        "device" => hub.device(&device_id("a+b#c%d")).await.map(drop),
        "devices" => hub.devices(20).await.map(drop),
        "delete_device" => hub.delete_device(&pump, IfMatch::Any).await,
        "modules" => hub.modules(&pump).await.map(drop),
        "module" => hub.module(&pump, &valve).await.map(drop),
        "create_module" => hub.create_module(&Module::new("pump-7", "valve")).await.map(drop),
        "delete_module" => hub.delete_module(&pump, &valve, etag("MQ==")).await,
        "device_statistics" => hub.device_statistics().await.map(drop),
        "service_statistics" => hub.service_statistics().await.map(drop),
        "bulk" => {
            let entries = ["pump-1", "pump-2"].map(|id| BulkEntry::new(ImportMode::Create, id));
            hub.bulk(&entries).await.map(drop)
        }
        "twin" => hub.twin(&entity("pump-7")).await.map(drop),
        "patch_twin" => hub.patch_twin(&entity("pump-7"), &patch, etag("AAAAAAAAAAE=")).await.map(drop),
        "replace_twin" => hub.replace_twin(&entity("pump-7"), &patch, IfMatch::Any).await.map(drop),
        "patch_module_twin" => hub.patch_twin(&entity("pump-7/valve"), &patch, IfMatch::Any).await.map(drop),
        "query" => {
            let mut query = hub.query("SELECT * FROM devices").page_size(50).continuation("token");
            query.next_page().await.map(drop)
        }
        "invoke" => hub.invoke(&entity("pump-7"), &lock).await.map(drop),
        "invoke_module" => hub.invoke(&entity("pump-7/valve"), &lock).await.map(drop),
        "create_method_job" => {
            let job = NewJob::new("lock-1", JobWork::Method(lock), "tags.site='A'").starting_at(start);
            hub.create_job(&job).await.map(drop)
        }
        "create_twin_job" => {
            let mut job = NewJob::new("twin-1", JobWork::Twin(patch), "*").starting_at(start);
            job.max_execution = Duration::from_secs(60);
            hub.create_job(&job).await.map(drop)
        }
        "job" => hub.job("lock-1").await.map(drop),
        "cancel_job" => hub.cancel_job("lock-1").await.map(drop),
        "configurations" => hub.configurations(20).await.map(drop),
        "configuration" => hub.configuration("fans-1").await.map(drop),
        "create_configuration" => hub.create_configuration(&fans).await.map(drop),
        "update_configuration" => {
            fans.etag = Some("MQ==".into());
            hub.update_configuration(&fans, fans.if_match()).await.map(drop)
        }
        "delete_configuration" => hub.delete_configuration("fans-1", IfMatch::Any).await,
        "test_configuration_queries" => {
            let queries = ConfigurationQueries {
                target_condition: Some("tags.site='A'".into()),
                custom_metric_queries: [("m".to_owned(), "select deviceId from devices".to_owned())].into(),
            };
            hub.test_configuration_queries(&queries).await.map(drop)
        }
        "apply_configuration_content" => {
            let content = ConfigurationContent::edge([("cooler".to_owned(), fan)].into());
            hub.apply_configuration_content(&device_id("gateway-1"), &content).await
        }
        _ => panic!("{operation} is recorded, and this test does not know it"),
    }
}

/// Our request in the form of the recording. What the answer is taken for does not matter here.
async fn ours(operation: &str) -> Value {
    let hub = Hub::start([answer(200, json!({}))]).await;
    call(&hub.client, operation).await.ok();
    let seen = hub.seen();
    assert_eq!(seen.len(), 1, "{operation}");
    told(&seen[0])
}

fn told(seen: &Seen) -> Value {
    let (method, target) = seen.line.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers: JsonObject =
        HEADERS.iter().filter_map(|name| Some(((*name).to_owned(), json!(seen.header(name)?)))).collect();
    let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    json!({ "method": method, "path": path, "query": query, "headers": headers, "body": body })
}

/// Appends where two documents differ, a line each: `place: theirs -> ours`.
fn differences(place: &str, theirs: &Value, ours: &Value, out: &mut String) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            let mut names: Vec<&String> = theirs.keys().chain(ours.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let absent = &Value::String("absent".into());
                let place = format!("{place}.{name}");
                differences(
                    &place,
                    theirs.get(name).unwrap_or(absent),
                    ours.get(name).unwrap_or(absent),
                    out,
                );
            }
        }
        (Value::Array(theirs), Value::Array(ours)) if theirs.len() == ours.len() => {
            for (index, (theirs, ours)) in theirs.iter().zip(ours).enumerate() {
                differences(&format!("{place}[{index}]"), theirs, ours, out);
            }
        }
        _ if theirs == ours => {}
        _ => writeln!(out, "  {place}: {theirs} -> {ours}").unwrap(),
    }
}

/// Everything in which our requests differ from the recorded ones. The order of query parameters does not count.
#[tokio::test]
async fn requests_differ_from_those_of_the_official_sdks_only_in_this() {
    let mut found = String::new();
    for (sdk, recorded) in RECORDED {
        for line in recorded.lines() {
            let mut theirs: Value = serde_json::from_str(line).unwrap();
            let operation = theirs.as_object_mut().unwrap().remove("operation").unwrap();
            let operation = operation.as_str().unwrap();
            let mut ours = ours(operation).await;
            for request in [&mut theirs, &mut ours] {
                let mut parameters: Vec<&str> = request["query"].as_str().unwrap().split('&').collect();
                parameters.sort_unstable();
                request["query"] = parameters.join("&").into();
            }
            let mut lines = String::new();
            differences("", &theirs, &ours, &mut lines);
            if !lines.is_empty() {
                write!(found, "{sdk} {operation}\n{lines}").unwrap();
            }
        }
    }
    insta::assert_snapshot!(found);
}

/// Our requests themselves, so that a change of them is seen by whoever makes it.
#[tokio::test]
async fn requests_as_they_are() {
    let mut text = String::new();
    for line in RECORDED[0].1.lines() {
        let recorded: Value = serde_json::from_str(line).unwrap();
        let operation = recorded["operation"].as_str().unwrap();
        writeln!(text, "{operation}: {}", ours(operation).await).unwrap();
    }
    insta::assert_snapshot!(text);
}
