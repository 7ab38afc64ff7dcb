//! What clients do to a connection: odd requests, too much, too slowly, and leaving.

use super::harness::{find, versioned, TestHub};
use std::time::Duration;

#[tokio::test]
async fn api_versions() {
    let hub = TestHub::start().await;
    for (query, status) in [
        ("", 400),
        ("?api-version=1", 400),
        ("?api-version=2030-01-01-preview", 200),
        ("?x=1&API-VERSION=2018-06-30", 200),
    ] {
        let token = hub.token("iothubowner");
        let line = format!("GET /devices{query}");
        let answer = hub.connect().await.call(&line, &[("Authorization", &token)], "").await;
        assert_eq!(answer.status, status, "{query}: {}", answer.body);
    }
}

#[tokio::test]
async fn odd_but_lawful_requests() {
    let hub = TestHub::start().await;
    let token = hub.token("iothubowner");
    let auth = [("Authorization", token.as_str())];
    let mut client = hub.connect().await;

    let head = client.call(&versioned("HEAD /statistics/devices"), &auth, "").await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("69")));
    let options = client.call("OPTIONS /twins/d", &[], "").await;
    assert_eq!((options.status, options.header("allow")), (204, Some("GET, PATCH, PUT")));
    let all = client.call("OPTIONS *", &[], "").await;
    assert_eq!(all.status, 204);
    let absolute = client.call(&versioned("GET http://localhost/statistics/devices"), &auth, "").await;
    assert_eq!(absolute.status, 200);
    let wrong_verb = client.call("PATCH /devices/d", &auth, "").await;
    assert_eq!((wrong_verb.status, wrong_verb.header("allow")), (405, Some("GET, PUT, DELETE")));
    let unknown = client.call("GET /nowhere", &auth, "").await;
    assert_eq!((unknown.status, unknown.header("iothub-errorcode")), (404, Some("GenericNotFound")));

    let line = versioned("PUT /devices/chunked");
    client
        .send(&format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\nTransfer-Encoding: chunked\r\n\r\n\
             1\r\n{{\r\n1\r\n}}\r\n0\r\n\r\n"
        ))
        .await;
    assert_eq!(client.answer(false).await.status, 200);

    client
        .send(&format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        ))
        .await;
    assert_eq!(client.answer(false).await.status, 100);
    client.send("{}").await;
    assert_eq!(client.answer(false).await.status, 409);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let hub = TestHub::start().await;
    let mut client = hub.connect().await;
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.send(&[request("/healthz"), request("/nowhere"), request("/readyz")].concat()).await;
    let statuses = [
        client.answer(false).await.status,
        client.answer(false).await.status,
        client.answer(false).await.status,
    ];
    assert_eq!(statuses, [200, 404, 200]);
    // The first answer does not wait for the rest of the second request.
    client.send(&format!("{}GET /rea", request("/healthz"))).await;
    assert_eq!(client.answer(false).await.status, 200);
}

#[tokio::test]
async fn requests_that_break_the_rules() {
    let hub = TestHub::start().await;
    for (request, status) in [
        ("GET /healthz HTTP/1.1\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
        ("nonsense\r\n\r\n", 400),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", 400),
    ] {
        let mut client = hub.connect().await;
        client.send(request).await;
        assert_eq!(client.answer(false).await.status, status, "{request:?}");
        assert_eq!(client.answer(false).await.status, 0, "the connection ends after {request:?}");
    }
    let mut client = hub.connect().await;
    let headers: String = (0..4000).map(|i| format!("X-{i}: 0123456789\r\n")).collect();
    client.send(&format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{headers}\r\n")).await;
    assert_eq!(client.answer(false).await.status, 431);
}

#[tokio::test]
async fn bodies_beyond_a_routes_limit_are_refused_unread() {
    let hub = TestHub::start().await;
    let token = hub.token("iothubowner");
    for line in
        ["PUT /devices/d", "PATCH /twins/d", "POST /twins/d/methods", "POST /devices", "PUT /jobs/v2/j"]
    {
        let line = versioned(line);
        let mut client = hub.connect().await;
        let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n");
        client.send(&format!("{head}Content-Length: 300000000\r\n\r\n")).await;
        client.send(&"x".repeat(100_000)).await;
        let answer = client.answer(false).await;
        assert_eq!((answer.status, answer.header("connection")), (413, Some("close")), "{line}");
        if line.contains("devices/d") {
            let mut client = hub.connect().await;
            client.send(&format!("{head}Transfer-Encoding: chunked\r\n\r\n")).await;
            for _ in 0..7 {
                client.send(&format!("2800\r\n{}\r\n", "x".repeat(0x2800))).await;
            }
            assert_eq!(client.answer(false).await.status, 413, "{line} chunked");
        }
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let hub = TestHub::start_with(|config| config.limits.http_body_timeout = Duration::from_millis(50)).await;
    let token = hub.token("iothubowner");
    let mut client = hub.connect().await;
    let line = versioned("PUT /devices/d");
    client
        .send(&format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\nContent-Length: 100\r\n\r\n{{"
        ))
        .await;
    assert_eq!(client.answer(false).await.status, 408);
}

#[tokio::test]
async fn headers_that_do_not_end_are_not_waited_for() {
    let hub =
        TestHub::start_with(|config| config.limits.http_header_timeout = Duration::from_millis(50)).await;
    let mut client = hub.connect().await;
    client.send("GET /healthz HTTP/1.1\r\nHo").await;
    assert_eq!(client.answer(false).await.status, 408);
    assert_eq!(client.answer(false).await.status, 0);
}

#[tokio::test]
async fn a_deep_document_is_refused() {
    let hub = TestHub::start().await;
    hub.register("d").await;
    let deep = format!(r#"{{"tags":{{"a":{}1{}}}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let answer = hub.call("iothubowner", "PATCH /twins/d", &[], &deep).await;
    assert_eq!((answer.status, answer.header("iothub-errorcode")), (400, Some("DeserializationError")));
}

#[tokio::test]
async fn a_caller_that_leaves_gives_its_method_call_up() {
    let hub = TestHub::start().await;
    hub.device("d").await;
    let token = hub.token("service");
    let mut client = hub.connect().await;
    let body = r#"{"methodName":"hang","responseTimeoutInSeconds":300}"#;
    let line = versioned("POST /twins/d/methods");
    client
        .send(&format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    let in_flight = async || {
        hub.call("service", "GET /metrics", &[], "").await.body.contains("http_requests_in_flight 2")
    };
    until(async || in_flight().await).await;
    drop(client);
    until(async || !in_flight().await).await;
}

#[tokio::test]
async fn events_come_line_by_line_and_end_with_the_hub() {
    let hub = TestHub::start().await;
    let token = hub.token("service");
    let mut client = hub.connect().await;
    let line = "GET /ostler/v1/events?types=registry&deviceId=d";
    client.send(&format!("{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n\r\n")).await;
    let head = client.answer(true).await;
    assert_eq!(
        (head.status, head.header("content-type")),
        (200, Some("application/x-ndjson; charset=utf-8"))
    );
    hub.register("other").await;
    hub.register("d").await;
    client.read_until(|bytes| find(bytes, b"created\"}\n")).await.unwrap();
    let chunk = String::from_utf8_lossy(client.unread()).into_owned();
    assert!(chunk.contains(r#"{"type":"registry","time":""#) && !chunk.contains("other"), "{chunk}");
    hub.running.stop().await;
    assert!(client.read_until(|bytes| find(bytes, b"0\r\n\r\n")).await.is_some(), "the stream ends in order");
}

#[tokio::test]
async fn an_idle_connection_is_closed_but_not_a_live_stream() {
    let hub =
        TestHub::start_with(|config| config.limits.http_idle_timeout = Duration::from_millis(100)).await;
    let token = hub.token("service");
    let mut watcher = hub.connect().await;
    let line = "GET /ostler/v1/events?types=registry";
    watcher.send(&format!("{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n\r\n")).await;
    assert_eq!(watcher.answer(true).await.status, 200);
    for _ in 0..3 {
        let mut idle = hub.connect().await;
        assert_eq!(idle.call("GET /healthz", &[], "").await.status, 200);
        assert_eq!(idle.answer(false).await.status, 0, "closed for being idle");
    }
    hub.register("d").await;
    assert!(watcher.read_until(|bytes| find(bytes, b"\"created\"")).await.is_some());
    let wrong = hub.call("service", "GET /ostler/v1/events?types=telemetri", &[], "").await;
    assert_eq!(wrong.status, 400, "{}", wrong.body);
}

#[tokio::test]
async fn a_connection_is_half_open_until_a_request_is_authorised() {
    let hub = TestHub::start().await;
    let half_open = || hub.running.app().doors().half_open;
    let mut client = hub.connect().await;
    assert_eq!(client.call("GET /healthz", &[], "").await.status, 200);
    assert_eq!(half_open(), 1);
    let token = hub.token("iothubowner");
    assert_eq!(client.call(&versioned("GET /devices"), &[("Authorization", &token)], "").await.status, 200);
    assert_eq!(half_open(), 0);
}

#[tokio::test]
async fn who_is_refused_before_the_body_is_read_still_reads_why() {
    let hub = TestHub::start().await;
    let mut client = hub.connect().await;
    let line = versioned("POST /devices");
    client.send(&format!("{line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 800000\r\n\r\n")).await;
    client.send(&"x".repeat(800_000)).await;
    assert_eq!(client.answer(false).await.status, 401);
}

/// Looks again until it is so; the test runner's own timeout ends a vain wait.
async fn until(is_so: impl AsyncFn() -> bool) {
    while !is_so().await {
        tokio::task::yield_now().await;
    }
}
