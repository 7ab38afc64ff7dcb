//! Queries over real connections: headers, tokens, errors, and pages while others write.

use super::harness::{Answer, TestHub};
use std::collections::BTreeSet;

const ALL: &str = "SELECT * FROM devices";

/// The body that asks a query.
fn body(text: &str) -> String {
    let mut out = Vec::new();
    ostler_wire::rest::twin_query::write_query(text, &mut out);
    String::from_utf8(out).unwrap()
}

pub(super) async fn ask(hub: &TestHub, text: &str, headers: &[(&str, &str)]) -> Answer {
    hub.call("service", "POST /devices/query", headers, &body(text)).await
}

/// Registers `d000`, `d001` …, their number in `tags.n` and its last digit in `tags.digit`.
async fn fleet(hub: &TestHub, count: usize) {
    for first in (0..count).step_by(100) {
        let entry = |n| {
            let digit = n % 10;
            format!(r#"{{"id":"d{n:03}","importMode":"create","tags":{{"n":{n},"digit":{digit}}}}}"#)
        };
        let entries: Vec<String> = (first..count.min(first + 100)).map(entry).collect();
        let body = format!("[{}]", entries.join(","));
        let answer = hub.call("iothubowner", "POST /devices", &[], &body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

/// The values of a member, in the order of the rows.
fn values(body: &str, member: &str) -> Vec<String> {
    let mark = format!("\"{member}\":");
    let parts = body.split(&mark).skip(1);
    parts.map(|rest| rest.split([',', '}']).next().unwrap().trim_matches('"').to_owned()).collect()
}

/// All pages of a query, and the values of a member over all of them.
async fn pages(hub: &TestHub, text: &str, size: &str, member: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut token = None::<String>;
    loop {
        let mut headers = vec![("x-ms-max-item-count", size)];
        headers.extend(token.as_deref().map(|token| ("x-ms-continuation", token)));
        let answer = ask(hub, text, &headers).await;
        assert_eq!(answer.status, 200, "{text}: {}", answer.body);
        pages.push(values(&answer.body, member));
        match answer.header("x-ms-continuation") {
            None => return pages,
            Some(next) => token = Some(next.to_owned()),
        }
        assert!(pages.len() < 1000, "{text} does not end");
    }
}

#[tokio::test]
async fn a_row_is_what_the_twin_route_answers() {
    let hub = TestHub::start().await;
    hub.device("online").await;
    hub.call("iothubowner", "PUT /devices/online/modules/m", &[], "{}").await;
    let patch = r#"{"tags":{"site":"A"},"properties":{"desired":{"interval":30.0}}}"#;
    hub.call("service", "PATCH /twins/online", &[], patch).await;
    let twin = hub.call("service", "GET /twins/online", &[], "").await.body;
    assert!(twin.contains(r#""connectionState":"Connected""#), "{twin}");
    let answer = ask(&hub, ALL, &[]).await;
    assert_eq!((answer.status, answer.body), (200, format!("[{twin}]")));
    let module = hub.call("service", "GET /twins/online/modules/m", &[], "").await.body;
    assert_eq!(ask(&hub, "select * from devices.modules", &[]).await.body, format!("[{module}]"));
}

#[tokio::test]
async fn what_was_acknowledged_is_found_at_once() {
    let hub = TestHub::start().await;
    hub.register("d").await;
    for n in 0..20 {
        let patch = format!(r#"{{"tags":{{"n":{n}}}}}"#);
        assert_eq!(hub.call("service", "PATCH /twins/d", &[], &patch).await.status, 200);
        let text = format!("SELECT deviceId FROM devices WHERE tags.n = {n}");
        assert_eq!(ask(&hub, &text, &[]).await.body, r#"[{"deviceId":"d"}]"#);
    }
}

#[tokio::test]
async fn the_kind_of_the_rows_is_told() {
    let hub = TestHub::start().await;
    for (text, kind) in [
        (ALL, "Twin"),
        ("SELECT * FROM devices.modules", "Twin"),
        ("SELECT deviceId FROM devices", "Raw"),
        ("SELECT COUNT() AS n FROM devices.modules", "Raw"),
        ("SELECT COUNT() AS n FROM devices.jobs", "Raw"),
        ("EXPLAIN SELECT * FROM devices", "Raw"),
        ("SELECT * FROM devices.jobs", "DeviceJob"),
    ] {
        let answer = ask(&hub, text, &[]).await;
        assert_eq!(
            (answer.status, answer.header("x-ms-item-type")),
            (200, Some(kind)),
            "{text}: {}",
            answer.body
        );
        assert_eq!(answer.header("x-ms-continuation"), None, "{text}");
        assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    }
    assert_eq!(ask(&hub, ALL, &[]).await.body, "[]");
}

#[tokio::test]
async fn pages_are_as_long_as_asked_for() {
    let hub = TestHub::start().await;
    fleet(&hub, 205).await;
    let text = "SELECT deviceId FROM devices";
    let ids: Vec<String> = (0..205).map(|n| format!("d{n:03}")).collect();
    for (size, lengths) in
        [("100", vec![100, 100, 5]), ("205", vec![205]), ("41", vec![41; 5]), ("9999", vec![205])]
    {
        let pages = pages(&hub, text, size, "deviceId").await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), lengths, "{size}");
        assert_eq!(pages.concat(), ids, "{size}");
    }
    assert_eq!(values(&ask(&hub, text, &[]).await.body, "deviceId").len(), 100);
    assert_eq!(values(&ask(&hub, text, &[("x-ms-continuation", "")]).await.body, "deviceId").len(), 100);
    for size in ["0", "-1", "ten", "1.5", ""] {
        let answer = ask(&hub, text, &[("x-ms-max-item-count", size)]).await;
        assert_eq!(
            (answer.status, answer.header("iothub-errorcode")),
            (400, Some("ArgumentInvalid")),
            "{size}"
        );
    }
}

#[tokio::test]
async fn limits_count_over_all_pages() {
    let hub = TestHub::start().await;
    fleet(&hub, 50).await;
    for (text, size, lengths, first, last) in [
        ("SELECT TOP 7 deviceId FROM devices", "3", vec![3, 3, 1], "d000", "d006"),
        ("SELECT TOP 6 deviceId FROM devices", "3", vec![3, 3], "d000", "d005"),
        ("SELECT deviceId FROM devices LIMIT 5", "100", vec![5], "d000", "d004"),
        ("SELECT deviceId FROM devices LIMIT 5 OFFSET 10", "2", vec![2, 2, 1], "d010", "d014"),
        ("SELECT deviceId FROM devices WHERE tags.n >= 40", "10", vec![10], "d040", "d049"),
        (
            "SELECT deviceId FROM devices ORDER BY tags.n DESC LIMIT 4 OFFSET 1",
            "3",
            vec![3, 1],
            "d048",
            "d045",
        ),
        (
            "SELECT deviceId FROM devices ORDER BY tags.digit, deviceId DESC",
            "20",
            vec![20, 20, 10],
            "d040",
            "d009",
        ),
    ] {
        let pages = pages(&hub, text, size, "deviceId").await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), lengths, "{text}");
        let ids = pages.concat();
        assert_eq!((ids[0].as_str(), ids[ids.len() - 1].as_str()), (first, last), "{text}");
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{text}: repeated");
    }
    let beyond = ask(&hub, "SELECT deviceId FROM devices LIMIT 5 OFFSET 50", &[]).await;
    assert_eq!((beyond.body.as_str(), beyond.header("x-ms-continuation")), ("[]", None));
    let far = ask(&hub, "SELECT deviceId FROM devices OFFSET 1000000000", &[]).await;
    assert_eq!((far.status, far.body.as_str()), (200, "[]"));
    let too_far = ask(&hub, "SELECT deviceId FROM devices ORDER BY tags.n OFFSET 1000000000", &[]).await;
    assert_eq!((too_far.status, too_far.header("iothub-errorcode")), (400, Some("ArgumentInvalid")));
}

#[tokio::test]
async fn groups_come_in_pages_too() {
    let hub = TestHub::start().await;
    fleet(&hub, 50).await;
    hub.register("plain").await;
    let text = "SELECT tags.digit AS d, COUNT() AS n FROM devices GROUP BY tags.digit";
    let counts = pages(&hub, text, "4", "n").await;
    assert_eq!(counts.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 3]);
    let digits = pages(&hub, text, "4", "d").await.concat();
    assert_eq!(digits.iter().collect::<BTreeSet<_>>().len(), 10);
    assert!(ask(&hub, text, &[]).await.body.contains(r#"{"n":1}"#), "those without the path");
    let down = format!("{text} ORDER BY tags.digit DESC LIMIT 5 OFFSET 2");
    assert_eq!(pages(&hub, &down, "2", "d").await, [vec!["7", "6"], vec!["5", "4"], vec!["3"]]);
    hub.call("service", "PATCH /twins/d003", &[], r#"{"tags":{"digit":4}}"#).await;
    let most =
        "SELECT tags.digit AS d, COUNT() AS n FROM devices GROUP BY tags.digit ORDER BY n DESC, d DESC";
    let counts = pages(&hub, most, "4", "n").await;
    assert_eq!(counts.concat().join(" "), "6 5 5 5 5 5 5 5 5 4 1");
    assert_eq!(pages(&hub, most, "4", "d").await.concat().join(" "), "4 9 8 7 6 5 2 1 0 3");
    let one = ask(&hub, "SELECT COUNT() AS n, MAX(tags.n) AS top FROM devices", &[]).await;
    assert_eq!(one.body, r#"[{"n":51,"top":49}]"#);
}

#[tokio::test]
async fn a_token_is_good_for_its_query_only() {
    let hub = TestHub::start().await;
    fleet(&hub, 10).await;
    let size = ("x-ms-max-item-count", "4");
    let first = ask(&hub, ALL, &[size]).await;
    let token = first.header("x-ms-continuation").unwrap().to_owned();
    let go_on = async |hub: &TestHub, text: &str, token: &str| {
        ask(hub, text, &[size, ("x-ms-continuation", token)]).await
    };
    assert_eq!(values(&go_on(&hub, ALL, &token).await.body, "deviceId")[0], "d004");
    assert_eq!(values(&go_on(&hub, ALL, &token).await.body, "deviceId")[0], "d004", "as often as one likes");
    let narrower = "SELECT * FROM devices WHERE tags.n > 0";
    let other = TestHub::start().await;
    let changed = format!("{}{}", &token[..token.len() - 1], if token.ends_with('A') { 'B' } else { 'A' });
    for (hub, text, token) in [
        (&hub, narrower, token.as_str()),
        (&hub, "SELECT * FROM devices.modules", &token),
        (&hub, "select * from devices", &token),
        (&other, ALL, &token),
        (&hub, ALL, &changed),
        (&hub, ALL, &token[1..]),
        (&hub, ALL, "d004"),
        (&hub, ALL, "é"),
    ] {
        let answer = go_on(hub, text, token).await;
        assert_eq!(
            (answer.status, answer.header("iothub-errorcode")),
            (400, Some("ArgumentInvalid")),
            "{text} {token}"
        );
    }
}

#[tokio::test]
async fn a_token_outlives_the_hub() {
    let folder = tempfile::tempdir().unwrap();
    let start = async || {
        let data = crate::config::Data::Folder(folder.path().join("data"));
        TestHub::start_with(|config| config.data = data).await
    };
    let hub = start().await;
    fleet(&hub, 10).await;
    let size = ("x-ms-max-item-count", "4");
    let token = ask(&hub, ALL, &[size]).await.header("x-ms-continuation").unwrap().to_owned();
    hub.running.stop().await;
    let answer = ask(&start().await, ALL, &[size, ("x-ms-continuation", &token)]).await;
    assert_eq!(values(&answer.body, "deviceId"), ["d004", "d005", "d006", "d007"]);
}

#[tokio::test]
async fn what_a_job_did_is_found() {
    let hub = TestHub::start().await;
    hub.device("pump-1").await;
    hub.register("pump-2").await;
    let method = r#"{"type":"scheduleDeviceMethod","queryCondition":"deviceId = 'pump-1'",
        "cloudToDeviceMethod":{"methodName":"echo","payload":{"speed":1.50}}}"#;
    let twin =
        r#"{"type":"scheduleUpdateTwin","queryCondition":"*","updateTwin":{"etag":"*","tags":{"site":"A"}}}"#;
    for (id, body) in [("j1", method), ("j2", twin)] {
        let answer = hub.call("service", &format!("PUT /jobs/v2/{id}"), &[], body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let job = format!("GET /jobs/v2/{id}");
        while !hub.call("service", &job, &[], "").await.body.contains(r#""status":"completed""#) {
            tokio::task::yield_now().await;
        }
    }
    let row = ask(&hub, "SELECT * FROM devices.jobs WHERE jobId = 'j1'", &[]).await;
    assert_eq!(row.header("x-ms-item-type"), Some("DeviceJob"));
    for part in [
        r#"[{"deviceId":"pump-1","jobId":"j1","jobType":"scheduleDeviceMethod","status":"completed","startTimeUtc":""#,
        r#""outcome":{"deviceMethodResponse":{"status":200,"payload":{"speed":1.50}}}}]"#,
    ] {
        assert!(row.body.contains(part), "{part}: {}", row.body);
    }
    let text = "SELECT deviceId FROM devices.jobs WHERE devices.jobs.jobType = 'scheduleUpdateTwin'";
    assert_eq!(pages(&hub, text, "1", "deviceId").await, [["pump-1"], ["pump-2"]]);
    let counted = "SELECT status, COUNT() AS n FROM devices.jobs GROUP BY status";
    assert_eq!(ask(&hub, counted, &[]).await.body, r#"[{"status":"completed","n":3}]"#);
    let changed = ask(&hub, "SELECT COUNT() AS n FROM devices WHERE tags.site = 'A'", &[]).await;
    assert_eq!(changed.body, r#"[{"n":2}]"#);
}

#[tokio::test]
async fn what_cannot_be_read_is_told_with_its_place() {
    let hub = TestHub::start().await;
    let too_long = format!("SELECT * FROM devices WHERE tags.x = '{}'", "x".repeat(8200));
    for (text, place) in [
        ("SELECT * FROM devices WHERE", "1:28"),
        ("SELECT * FROM widgets", "1:15"),
        ("SELECT * FROM devices WHERE tags.site == 'Oslo'", "1:40"),
        ("SELECT * FROM devices\nWHERE tags.group = 1", "2:12"),
        ("SELECT * FROM devices WHERE NOSUCHFN(deviceId)", "1:29"),
        ("SELECT *, deviceId FROM devices", "1:9"),
        (&too_long, "1:1"),
    ] {
        let answer = ask(&hub, text, &[]).await;
        assert_eq!(
            (answer.status, answer.header("iothub-errorcode")),
            (400, Some("IotHubFormatError")),
            "{text}"
        );
        let start = r#"{"Message":"ErrorCode:IotHubFormatError;SQL query parse failed due to following errors: \n\tLine "#;
        assert!(answer.body.starts_with(&format!("{start}{place} ")), "{text}: {}", answer.body);
    }
    for (body, code) in [
        ("", "ArgumentNull"),
        ("{}", "ArgumentNull"),
        (r#"{"query":null}"#, "ArgumentNull"),
        (r#"{"query":""}"#, "ArgumentNull"),
        ("[]", "DeserializationError"),
        (r#"{"query":7}"#, "DeserializationError"),
        ("SELECT", "DeserializationError"),
    ] {
        let answer = hub.call("service", "POST /devices/query", &[], body).await;
        assert_eq!((answer.status, answer.header("iothub-errorcode")), (400, Some(code)), "{body}");
    }
    let none = hub.call("service", "POST /devices/query", &[], "{}").await.body;
    assert!(none.starts_with(r#"{"Message":"ErrorCode:ArgumentNull;BadRequest"#), "{none}");
}

#[tokio::test]
async fn a_strict_hub_refuses_what_azure_lacks() {
    let (hub, strict) = (TestHub::start().await, TestHub::strict().await);
    for text in [
        "SELECT * FROM devices ORDER BY deviceId",
        "SELECT * FROM devices LIMIT 5",
        "SELECT * FROM devices WHERE tags.site LIKE 'O%'",
        "SELECT * FROM devices WHERE CONTAINS(deviceId, 'x')",
        "SELECT * FROM devices WHERE LOWER(deviceId) = 'x'",
        "SELECT deviceId FROM devices.jobs",
        "SELECT status, COUNT() AS n FROM devices.jobs GROUP BY status",
        "EXPLAIN SELECT * FROM devices",
    ] {
        assert_eq!(ask(&hub, text, &[]).await.status, 200, "{text}");
        assert_eq!(ask(&strict, text, &[]).await.status, 400, "{text}");
    }
}

#[tokio::test]
async fn a_query_is_explained() {
    let hub = TestHub::start().await;
    fleet(&hub, 3).await;
    let patch = r#"{"properties":{"desired":{"temp":{"high":3}}}}"#;
    hub.call("service", "PATCH /twins/d001", &[], patch).await;
    let text = "explain select * from devices where n > 1 and temp.high = 3 and tags.digit = 1 and sise = 2";
    let answer = ask(&hub, text, &[]).await;
    assert_eq!((answer.status, answer.header("x-ms-item-type")), (200, Some("Raw")), "{}", answer.body);
    for part in ["tags.n", "properties.desired.temp.high", "tags.digit", "sise", r#""plan":"#] {
        assert!(answer.body.contains(part), "{part}: {}", answer.body);
    }
}

/// Devices that are there and match throughout come exactly once, whatever else is written between the pages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_miss_none_and_repeat_none_while_others_write() {
    let hub = std::sync::Arc::new(TestHub::start().await);
    fleet(&hub, 600).await;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = |from: usize| {
        let (hub, stop) = (hub.clone(), stop.clone());
        tokio::spawn(async move {
            let token = hub.token("iothubowner");
            let auth = [("Authorization", token.as_str())];
            let mut client = hub.connect().await;
            let mut call = async |line: &str, body: &str| {
                let status = client.call(&super::harness::versioned(line), &auth, body).await.status;
                assert!(status < 300, "{line}: {status}");
            };
            let mut written = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let n = (from + written * 7) % 600;
                let patch = format!(
                    r#"{{"tags":{{"round":{written}}},"properties":{{"desired":{{"w":{written}}}}}}}"#
                );
                call(&format!("PATCH /twins/d{n:03}"), &patch).await;
                // Others come and go in between.
                call(&format!("PUT /devices/d{n:03}-guest{from}"), "{}").await;
                call(&format!("DELETE /devices/d{n:03}-guest{from}"), "").await;
                written += 1;
            }
            written
        })
    };
    let writers = [writer(0), writer(3)];
    let here: Vec<String> = (0..600).map(|n| format!("d{n:03}")).collect();
    for text in [
        "SELECT deviceId FROM devices",
        "SELECT deviceId FROM devices WHERE tags.n >= 0",
        "SELECT deviceId FROM devices WHERE tags.n >= 0 ORDER BY tags.digit DESC",
    ] {
        let pages = pages(&hub, text, "37", "deviceId").await;
        let mut ids: Vec<String> = pages.concat().into_iter().filter(|id| id.len() == 4).collect();
        ids.sort();
        assert_eq!(ids, here, "{text}");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for writer in writers {
        assert!(writer.await.unwrap() > 0);
    }
}
