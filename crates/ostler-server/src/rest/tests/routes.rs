//! What each route answers, and the proof that none is left out.

use super::harness::{redact, TestHub};
use ostler_wire::rest::route::{Method, Route, ENDPOINTS};

/// One request of the tour: the route it is for, its first line, headers and body.
struct Case {
    endpoint: &'static str,
    line: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
}

const fn case(endpoint: &'static str, line: &'static str, body: &'static str) -> Case {
    Case { endpoint, line, headers: &[], body }
}

const fn with(
    endpoint: &'static str,
    line: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
) -> Case {
    Case { endpoint, line, headers, body }
}

/// Routes whose answer does not end or is no JSON have tests of their own: [`super::bounds`], [`super::jobs`],
/// [`super::websocket`].
const ELSEWHERE: [&str; 3] = ["events", "jobProgress", "webSocket"];

const ANY: &[(&str, &str)] = &[("If-Match", "\"*\"")];
const STALE: &[(&str, &str)] = &[("If-Match", "\"MQ==\"")];
const PYTHON: &[(&str, &str)] =
    &[("User-Agent", "python/3.11.2 (Linux) msrest/0.7.1 iothubgatewayserviceapis/2021-04-12")];
/// As one client sends it for configurations, and for nothing else (service §4).
const RAW_ANY: &[(&str, &str)] = &[("If-Match", "*")];
const RAW_STALE: &[(&str, &str)] = &[("If-Match", "MA==")];
const OVERRIDE: &[(&str, &str)] = &[("X-HTTP-Method-Override", "PATCH")];

const MESSAGE: &[(&str, &str)] = &[
    ("iothub-messageid", "m-1"),
    ("iothub-ack", "full"),
    ("iothub-app-colour", "red"),
    ("ostler-properties", "Size=1%20m&flag"),
];
const CONFIGURATION: &str = r#"{"id":"cfg-1","schemaVersion":"1.0","labels":{"k":"v"},"content":{"deviceContent":{"properties.desired.cooling":{"fan":2.0}}},"targetCondition":"deviceId = 'nobody'","priority":10,"metrics":{"queries":{"m1":"select deviceId from devices where deviceId = 'nobody'"}}}"#;
const CONFIGURATION_2: &str = r#"{"content":{"deviceContent":{"properties.desired.a":1}}}"#;
const CONFIGURATION_CONTENT: &str = r#"{"deviceContent":{"properties.desired.a":1}}"#;

/// A tour of the hub; each request meets what the ones before it made.
const TOUR: &[Case] = &[
    // Identities.
    case(
        "putDevice",
        "PUT /devices/dev-1",
        r#"{"deviceId":"dev-1","status":"enabled","statusReason":"new"}"#,
    ),
    case("putDevice", "PUT /devices/dev-1", r#"{"deviceId":"dev-1"}"#),
    with("putDevice", "PUT /devices/dev-1", STALE, r#"{"deviceId":"dev-1"}"#),
    with(
        "putDevice",
        "PUT /devices/dev-1",
        ANY,
        r#"{"deviceId":"dev-1","status":"disabled","statusReason":"lost"}"#,
    ),
    with("putDevice", "PUT /devices/dev-9", ANY, r#"{"deviceId":"dev-9"}"#),
    case("putDevice", "PUT /devices/dev-2", r#"{"deviceId":"dev-3"}"#),
    case("putDevice", "PUT /devices/a%2Fb", "{}"),
    case("putDevice", "PUT /devices/dev-2", "{"),
    case("putDevice", "PUT /devices/dev-2", ""),
    case("getDevice", "GET /devices/dev-1/", ""),
    case("getDevice", "GET /devices/Dev-1", ""),
    case("listDevices", "GET /devices/?top=5", ""),
    case("listDevices", "GET /devices?top=0", ""),
    case(
        "putModule",
        "PUT /devices/dev-1/modules/mod",
        r#"{"moduleId":"mod","deviceId":"dev-1","managedBy":""}"#,
    ),
    case("putModule", "PUT /devices/dev-9/modules/mod", "{}"),
    case("getModule", "GET /devices/dev-1/modules/mod", ""),
    case("getModule", "GET /devices/dev-1/modules/none", ""),
    case("getModule", "GET /devices/dev-9/modules/mod", ""),
    case("listModules", "GET /devices/dev-1/modules", ""),
    case("listModules", "GET /devices/dev-9/modules", ""),
    case("purgeDevice", "DELETE /devices/dev-1/commands", ""),
    case("purgeModule", "DELETE /devices/dev-1/modules/mod/commands", ""),
    // Messages to devices.
    with("sendMessage", "POST /ostler/v1/devices/dev-1/messages", MESSAGE, "hello"),
    case("sendMessage", "POST /ostler/v1/devices/dev-1/messages", ""),
    case("sendMessage", "POST /ostler/v1/devices/dev-9/messages", "hello"),
    with("sendMessage", "POST /ostler/v1/devices/dev-1/messages", &[("iothub-ack", "some")], "hello"),
    with("sendMessage", "POST /ostler/v1/devices/dev-1/messages", &[("iothub-messageid", "a b")], "hello"),
    with(
        "sendMessage",
        "POST /ostler/v1/devices/dev-1/messages",
        &[("iothub-expiry", "2000-01-01T00:00:00Z")],
        "x",
    ),
    case("getDevice", "GET /devices/dev-1", ""),
    case("receiveFeedback", "GET /messages/serviceBound/feedback", ""),
    case("purgeDevice", "DELETE /devices/dev-1/commands", ""),
    case("receiveFeedback", "GET /messages/servicebound/feedback", ""),
    case("receiveFeedback", "GET /messages/servicebound/feedback", ""),
    case("completeFeedback", "DELETE /messages/servicebound/feedback/t", ""),
    case("abandonFeedback", "POST /messages/servicebound/feedback/0/abandon", ""),
    case("deviceStatistics", "GET /statistics/devices", ""),
    case("serviceStatistics", "GET /statistics/service", ""),
    case(
        "bulkDevices",
        "POST /devices",
        r#"[{"id":"bulk-1","importMode":"create","tags":{"site":"A"}},{"id":"dev-1","importMode":"create"},
            {"id":"bulk-2","importMode":"Update"},{"id":"bulk-3","importMode":"updateIfMatchETag"},{"id":"bad/id"}]"#,
    ),
    case("bulkDevices", "POST /devices/", r#"[{"id":"bulk-1","importMode":"Delete"}]"#),
    case("bulkDevices", "POST /devices", r#"[{"id":"a"},{"id":"a"}]"#),
    // Twins.
    case("getTwin", "GET /twins/dev-1", ""),
    case("getTwin", "GET /twins/dev-9", ""),
    case(
        "patchTwin",
        "PATCH /twins/dev-1",
        r#"{"tags":{"site":"A"},"properties":{"desired":{"interval":30.0}}}"#,
    ),
    with("patchTwin", "PATCH /twins/dev-1", STALE, r#"{"tags":{"site":"B"}}"#),
    with("patchTwin", "POST /twins/dev-1", OVERRIDE, r#"{"tags":null}"#),
    case("patchTwin", "PATCH /twins/dev-1", r#"{"tags":{"a.b":1}}"#),
    case("patchTwin", "PATCH /twins/dev-1", r#"{"tags":5}"#),
    with("replaceTwin", "PUT /twins/dev-1", ANY, r#"{"properties":{"desired":{"speed":1}}}"#),
    case("getModuleTwin", "GET /twins/dev-1/modules/mod", ""),
    case("getModuleTwin", "GET /twins/dev-1/modules/none", ""),
    case("patchModuleTwin", "PATCH /twins/dev-1/modules/mod", r#"{"properties":{"desired":{"a":null}}}"#),
    case("replaceModuleTwin", "PUT /twins/dev-1/modules/mod", "{}"),
    // Methods.
    case("invokeMethod", "POST /twins/online/methods", r#"{"methodName":"echo","payload":{"delay": 1.0}}"#),
    case("invokeMethod", "POST /twins/online/methods", r#"{"methodName":"echo"}"#),
    case("invokeMethod", "POST /twins/dev-1/methods", r#"{"methodName":"echo"}"#),
    case("invokeMethod", "POST /twins/dev-9/methods", r#"{"methodName":"echo"}"#),
    case("invokeMethod", "POST /twins/a%20b/methods", r#"{"methodName":"echo"}"#),
    case(
        "invokeMethod",
        "POST /twins/online/methods",
        r#"{"methodName":"echo","responseTimeoutInSeconds":1}"#,
    ),
    case("invokeMethod", "POST /twins/online/methods", "[]"),
    case("invokeModuleMethod", "POST /twins/dev-1/modules/mod/methods", r#"{"methodName":"echo"}"#),
    // Jobs; those that begin at once have tests of their own.
    case(
        "putJob",
        "PUT /jobs/v2/j1",
        r#"{"jobId":"j1","type":"scheduleDeviceMethod","cloudToDeviceMethod":{"methodName":"echo","payload":{"a": 1.0}},
            "queryCondition":"deviceId = 'online'","startTime":"2099-01-01T00:00:00.000Z","maxExecutionTimeInSeconds":60}"#,
    ),
    case(
        "putJob",
        "PUT /jobs/v2/j1",
        r#"{"type":"scheduleUpdateTwin","updateTwin":{"tags":{}},"queryCondition":"*"}"#,
    ),
    case(
        "putJob",
        "PUT /jobs/v2/query",
        r#"{"type":"scheduleUpdateTwin","updateTwin":{"etag":"*","properties":{"desired":{"a":null}}},
            "queryCondition":"*","startTime":"2099-01-01T00:00:00Z","rollout":{"rate":5}}"#,
    ),
    case("putJob", "PUT /jobs/v2/j2", r#"{"type":"export","queryCondition":"*"}"#),
    case("putJob", "PUT /jobs/v2/j2", r#"{"type":"scheduleDeviceMethod","cloudToDeviceMethod":{}}"#),
    case("putJob", "PUT /jobs/v2/j2", "{"),
    case("putJob", "PUT /jobs/v2/a%20b", "{}"),
    case("getJob", "GET /jobs/v2/j1", ""),
    case("getJob", "GET /jobs/v2/none", ""),
    case("queryJobs", "GET /jobs/v2/query?jobType=&jobStatus=scheduled", ""),
    case("queryJobs", "GET /jobs/v2/query?jobType=scheduleUpdateTwin&jobStatus=running", ""),
    case("queryJobs", "GET /jobs/v2/query?jobStatus=canceled", ""),
    with("queryJobs", "GET /jobs/v2/query?jobType=scheduleDeviceMethod", PYTHON, ""),
    with("queryJobs", "GET /jobs/v2/query", &[("x-ms-max-item-count", "0")], ""),
    with("queryJobs", "GET /jobs/v2/query", &[("x-ms-continuation", "bm90aGluZw")], ""),
    case("cancelJob", "POST /jobs/v2/j1/cancel", "{}"),
    case("cancelJob", "POST /jobs/v2/j1/cancel", ""),
    case("cancelJob", "POST /jobs/v2/none/cancel", ""),
    case(
        "putRolloutJob",
        "PUT /ostler/v1/jobs/j3",
        r#"{"type":"scheduleUpdateTwin","updateTwin":{"tags":{"x": 1.50}},"queryCondition":"*","startTime":"2099-01-01T00:00:00Z",
            "rollout":{"rate":5,"waves":{"percent":[10,40]},"gate":{"minSuccessPercent":95,"soakTimeInSeconds":60}}}"#,
    ),
    case(
        "putRolloutJob",
        "PUT /ostler/v1/jobs/j4",
        r#"{"type":"scheduleUpdateTwin","updateTwin":{"tags":{}},"queryCondition":"*","rollout":{"rates":5}}"#,
    ),
    case(
        "dryRunJob",
        "POST /ostler/v1/jobs/dryRun",
        r#"{"type":"scheduleUpdateTwin","updateTwin":{"tags":{}},"queryCondition":"deviceId != 'dev-1'","rollout":{"waves":{"sizes":[1]}}}"#,
    ),
    case(
        "dryRunJob",
        "POST /ostler/v1/jobs/dryRun",
        r#"{"type":"scheduleUpdateTwin","updateTwin":{"tags":{}},"queryCondition":"deviceId =! 'x'"}"#,
    ),
    case("pauseJob", "POST /ostler/v1/jobs/j3/pause", ""),
    case("getJob", "GET /jobs/v2/j3", ""),
    case("getJobDetails", "GET /ostler/v1/jobs/j3", ""),
    case("listJobDetails", "GET /ostler/v1/jobs?jobStatus=paused", ""),
    case("resumeJob", "POST /ostler/v1/jobs/j3/resume", "{}"),
    case("resumeJob", "POST /ostler/v1/jobs/j3/resume", ""),
    case("retryJob", "POST /ostler/v1/jobs/j3/retry", r#"{"jobId":"j5"}"#),
    case("cancelRolloutJob", "POST /ostler/v1/jobs/j3/cancel", ""),
    case("retryJob", "POST /ostler/v1/jobs/j3/retry", r#"{"jobId":"j5"}"#),
    case("retryJob", "POST /ostler/v1/jobs/j3/retry", "{}"),
    case("pauseJob", "POST /ostler/v1/jobs/j3/pause", ""),
    case("pauseJob", "POST /ostler/v1/jobs/none/pause", ""),
    // Configurations.
    case("putConfiguration", "PUT /configurations/cfg-1", CONFIGURATION),
    case("putConfiguration", "PUT /configurations/cfg-1", CONFIGURATION),
    with("putConfiguration", "PUT /configurations/cfg-1", RAW_STALE, CONFIGURATION),
    with(
        "putConfiguration",
        "PUT /configurations/cfg-1",
        RAW_ANY,
        r#"{"id":"cfg-1","priority":11,"metrics":{}}"#,
    ),
    with("putConfiguration", "PUT /configurations/cfg-1", ANY, r#"{"content":{"deviceContent":{}}}"#),
    with("putConfiguration", "PUT /configurations/cfg-2", ANY, CONFIGURATION_2),
    case("putConfiguration", "PUT /configurations/Cfg", CONFIGURATION_2),
    case("putConfiguration", "PUT /configurations/cfg-2", r#"{"content":{}}"#),
    case("putConfiguration", "PUT /configurations/cfg-2", r#"{"id":"cfg-3"}"#),
    case(
        "putConfiguration",
        "PUT /configurations/cfg-2",
        r#"{"content":{"deviceContent":{"properties.desired.a":1}},"targetCondition":"tags.a ="}"#,
    ),
    case(
        "putConfiguration",
        "PUT /configurations/cfg-2",
        r#"{"content":{"deviceContent":{"properties.desired.a":1}},"metrics":{"queries":{"m":"select"}}}"#,
    ),
    case("getConfiguration", "GET /configurations/cfg-1", ""),
    case("getConfiguration", "GET /configurations/cfg-9", ""),
    case("getConfiguration", "GET /configurations/Cfg", ""),
    case("listConfigurations", "GET /configurations/?top=500", ""),
    case("listConfigurations", "GET /configurations?top=0", ""),
    case(
        "testQueries",
        "POST /configurations/testQueries",
        r#"{"targetCondition":"tags.a = 1","customMetricQueries":{"good":"select * from devices","bad":"select"}}"#,
    ),
    case("putDevice", "PUT /devices/edge-1", r#"{"deviceId":"edge-1","capabilities":{"iotEdge":true}}"#),
    case(
        "applyConfiguration",
        "POST /devices/edge-1/applyConfigurationContent",
        r#"{"modulesContent":{"$edgeAgent":{"properties.desired":{"a":1}}}}"#,
    ),
    case("applyConfiguration", "POST /devices/edge-1/applyConfigurationContent", CONFIGURATION_CONTENT),
    case(
        "applyConfiguration",
        "POST /devices/dev-1/applyConfigurationContent",
        r#"{"modulesContent":{"m":{"properties.desired.a":1}}}"#,
    ),
    case("applyConfiguration", "POST /devices/dev-9/applyConfigurationContent", CONFIGURATION_CONTENT),
    with("deleteConfiguration", "DELETE /configurations/cfg-1", RAW_STALE, ""),
    case("deleteConfiguration", "DELETE /configurations/cfg-1", ""),
    with("deleteConfiguration", "DELETE /configurations/cfg-1", RAW_ANY, ""),
    with("deleteDevice", "DELETE /devices/edge-1", ANY, ""),
    // Deletions.
    with("deleteModule", "DELETE /devices/dev-1/modules/mod", ANY, ""),
    case("deleteModule", "DELETE /devices/dev-1/modules/$edgeHub", ""),
    with("deleteDevice", "DELETE /devices/dev-1", STALE, ""),
    with("deleteDevice", "DELETE /devices/dev-1", ANY, ""),
    case("deleteDevice", "DELETE /devices/dev-1", ""),
    // What there is not yet.
    case("queryTwins", "POST /devices/query", r#"{"query":"SELECT * FROM devices"}"#),
    case("createExport", "POST /jobs/create", "{}"),
    case("listExports", "GET /jobs", ""),
    case("getExport", "GET /jobs/j1", ""),
    case("cancelExport", "DELETE /jobs/j1", ""),
    case("exportRegistry", "POST /$admin/exportRegistry", "{}"),
    case("importRegistry", "POST /$admin/importRegistry", "{}"),
    case("getDigitalTwin", "GET /digitaltwins/online", ""),
    case("patchDigitalTwin", "PATCH /digitaltwins/online", "[]"),
    case("invokeCommand", "POST /digitaltwins/online/commands/c", "{}"),
    case("invokeComponentCommand", "POST /digitaltwins/online/components/c/commands/c", "{}"),
    case("sendEvent", "POST /devices/online/messages/events", "{}"),
    case("sendModuleEvent", "POST /devices/online/modules/m/messages/events", "{}"),
    case("receiveMessage", "GET /devices/online/messages/deviceBound", ""),
    case("completeMessage", "DELETE /devices/online/messages/deviceBound/t", ""),
    case("abandonMessage", "POST /devices/online/messages/deviceBound/t/abandon", ""),
    case("startUpload", "POST /devices/online/files", "{}"),
    case("startUpload", "POST /devices/online/files", r#"{"blobName":"a/../b"}"#),
    case("startUpload", "POST /devices/dev-9/files", r#"{"blobName":"a"}"#),
    case("finishUpload", "POST /devices/online/files/notifications", "{}"),
    case("finishNamedUpload", "POST /devices/online/files/notifications/c", r#"{"isSuccess":true}"#),
    case("putBlob", "PUT /uploads/online/a", "x"),
    case("listFiles", "GET /ostler/v1/files?device=online", ""),
    case("listFiles", "GET /ostler/v1/files?device=a/b", ""),
    case("getFile", "GET /ostler/v1/files/online/a", ""),
    case("getFile", "GET /ostler/v1/files/online", ""),
    case("deleteFile", "DELETE /ostler/v1/files/online/a", ""),
    // Ostler's own.
    case("diagnosis", "GET /ostler/v1/devices/online/diagnosis", ""),
    case("diagnosis", "GET /ostler/v1/devices/nobody/diagnosis?moduleId=m", ""),
    case("status", "GET /ostler/v1/status", ""),
    case("listPolicies", "GET /ostler/v1/policies", ""),
    case("createPolicy", "POST /ostler/v1/policies", r#"{"name":"ops","rights":["ServiceConnect"]}"#),
    case("createPolicy", "POST /ostler/v1/policies", r#"{"name":"ops","rights":["ServiceConnect"]}"#),
    case("createPolicy", "POST /ostler/v1/policies", r#"{"name":"none","rights":[]}"#),
    case("getPolicy", "GET /ostler/v1/policies/ops", ""),
    case("getPolicy", "GET /ostler/v1/policies/nobody", ""),
    case("rotatePolicyKey", "POST /ostler/v1/policies/ops/rotate?key=primary", ""),
    case("rotatePolicyKey", "POST /ostler/v1/policies/ops/rotate", ""),
    case("deletePolicy", "DELETE /ostler/v1/policies/ops", ""),
    case("deletePolicy", "DELETE /ostler/v1/policies/iothubowner", ""),
    case("listAuthorities", "GET /ostler/v1/certificate-authorities", ""),
    case("putAuthority", "PUT /ostler/v1/certificate-authorities/root", r#"{"pem":"nonsense"}"#),
    case("getAuthority", "GET /ostler/v1/certificate-authorities/root", ""),
    case("deleteAuthority", "DELETE /ostler/v1/certificate-authorities/root", ""),
    case("backup", "POST /ostler/v1/backup", r#"{"path":"relative"}"#),
    // Around it.
    case("landing", "GET /", ""),
    case("metrics", "GET /metrics", ""),
    case("health", "GET /healthz", ""),
    case("readiness", "GET /readyz", ""),
];

/// Members whose values are made at random or differ from run to run.
const RANDOM: &[&str] = &[
    "etag",
    "deviceEtag",
    "generationId",
    "deviceGenerationId",
    "primaryKey",
    "secondaryKey",
    "deviceScope",
];

#[tokio::test]
async fn every_route_answers_as_it_did() {
    let hub = TestHub::start().await;
    hub.device("online").await;
    let mut tour = String::new();
    for case in TOUR {
        let answer = hub.call("iothubowner", case.line, case.headers, case.body).await;
        let code = answer.header("iothub-errorcode").map_or_else(String::new, |code| format!(" {code}"));
        let etag = if answer.header("etag").is_some() { " etag" } else { "" };
        let body = match case.endpoint {
            "landing" | "metrics" => format!("({})", answer.header("content-type").unwrap()),
            "status" => {
                redact(&answer.body, &["version"]).split("\"uptimeSeconds\"").next().unwrap().to_owned()
            }
            _ => redact(&answer.body.replace(" 1 s ago", " 0 s ago"), RANDOM),
        };
        tour.push_str(&format!("{} {}\n{}{code}{etag} {body}\n\n", case.line, case.body, answer.status));
    }
    insta::assert_snapshot!("tour", tour);
}

#[test]
fn no_route_is_without_a_test() {
    for case in TOUR {
        let (verb, target) = case.line.split_once(' ').unwrap();
        let path = target.split('?').next().unwrap();
        let verb_override =
            case.headers.iter().find(|(name, _)| name.starts_with("X-HTTP")).map(|(_, verb)| *verb);
        match Route::parse(Method::parse(verb), path, verb_override) {
            Ok(route) => assert_eq!(route.endpoint.name, case.endpoint, "{}", case.line),
            // A bad id stops a request that did find its row.
            Err(error) => assert!(error.to_string().contains("is not a valid"), "{}: {error}", case.line),
        }
    }
    for endpoint in ENDPOINTS {
        let tested =
            TOUR.iter().any(|case| case.endpoint == endpoint.name) || ELSEWHERE.contains(&endpoint.name);
        assert!(tested, "{endpoint:?} has no test");
    }
}

#[tokio::test]
async fn an_authority_is_kept_and_listed() {
    let hub = TestHub::start().await;
    let pem = hub.running.ca_pem().unwrap().replace('\n', "\\n");
    let path = "/ostler/v1/certificate-authorities/root";
    let put = hub.call("iothubowner", &format!("PUT {path}"), &[], &format!(r#"{{"pem":"{pem}"}}"#)).await;
    assert_eq!(put.status, 200, "{}", put.body);
    assert!(put.body.starts_with(r#"{"name":"root","subject":"CN="#), "{}", put.body);
    let got = hub.call("iothubowner", &format!("GET {path}"), &[], "").await;
    assert_eq!(got.body, put.body);
    let list = hub.call("iothubowner", "GET /ostler/v1/certificate-authorities", &[], "").await;
    assert_eq!(list.body, format!("[{}]", put.body));
    let gone = hub.call("iothubowner", &format!("DELETE {path}"), &[], "").await;
    assert_eq!((gone.status, gone.body.as_str()), (204, ""));
}

#[tokio::test]
async fn a_backup_is_written_and_not_over_another() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let hub = TestHub::start_with(|config| config.data = crate::config::Data::Folder(data)).await;
    hub.register("dev-1").await;
    let body = format!(r#"{{"path":"{}"}}"#, folder.path().join("copy").display());
    let first = hub.call("iothubowner", "POST /ostler/v1/backup", &[], &body).await;
    assert_eq!(first.status, 200, "{}", first.body);
    assert!(first.body.contains(r#"/copy","records":"#), "{}", first.body);
    let second = hub.call("iothubowner", "POST /ostler/v1/backup", &[], &body).await;
    assert_eq!(second.status, 409, "{}", second.body);
    // The copy is a data folder: what a hub needs to serve the same devices under the same CA.
    for file in ["store", "ca.pem", "ca.key"] {
        assert!(folder.path().join("copy").join(file).exists(), "{file}");
    }
}

#[tokio::test]
async fn a_strict_hub_has_no_extensions_but_can_be_watched() {
    let hub = TestHub::strict().await;
    for endpoint in ENDPOINTS {
        let line = format!("{} {}", endpoint.method.as_str(), endpoint.path().replace(['{', '}'], ""));
        if line.contains("/ostler/") {
            let answer = hub.call("iothubowner", &line, &[], "").await;
            assert_eq!(
                (answer.status, answer.header("iothub-errorcode")),
                (404, Some("GenericNotFound")),
                "{line}"
            );
        }
    }
    assert_eq!(hub.call("iothubowner", "GET /metrics", &[], "").await.status, 200);
}
