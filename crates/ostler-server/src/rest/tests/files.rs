//! File upload as devices do it, and what back ends see of it: over the real door, with files on a real disk.

use super::harness::{redact, versioned, Answer, TestHub, KEY};
use crate::config::Data;
use ostler_core::identity::SymmetricKey;
use ostler_core::sas::sign;
use std::path::Path;
use std::time::Duration;

/// Where an upload goes.
struct Place {
    correlation: String,
    /// With its query.
    path: String,
}

impl TestHub {
    fn device_token(&self, id: &str) -> String {
        let key = SymmetricKey::from_base64(KEY).unwrap();
        sign(&format!("localhost/devices/{id}"), &key, self.running.app().hub.now().plus_secs(3600), None)
    }

    async fn as_device(&self, id: &str, line: &str, body: &str) -> Answer {
        let token = self.device_token(id);
        self.connect().await.call(&versioned(line), &[("Authorization", &token)], body).await
    }

    async fn begin(&self, id: &str, name: &str) -> Place {
        let body = format!(r#"{{"blobName":"{name}"}}"#);
        let answer = self.as_device(id, &format!("POST /devices/{id}/files"), &body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let text = |member: &str| json[member].as_str().unwrap().to_owned();
        assert_eq!(text("hostName"), "localhost");
        let path = format!("/{}/{}{}", text("containerName"), text("blobName"), text("sasToken"));
        Place { correlation: text("correlationId"), path }
    }

    async fn put(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.connect().await.call(&format!("PUT {path}"), headers, body).await
    }

    async fn put_file(&self, place: &Place, body: &str) -> Answer {
        self.put(&place.path, &[("x-ms-blob-type", "BlockBlob")], body).await
    }

    async fn put_block(&self, place: &Place, id: &str, body: &str) -> Answer {
        self.put(&format!("{}&comp=block&blockid={id}", place.path), &[], body).await
    }

    async fn put_list(&self, place: &Place, ids: &[&str]) -> Answer {
        let list: String = ids.iter().map(|id| format!("<Latest>{id}</Latest>")).collect();
        let list = format!("<?xml version='1.0' encoding='utf-8'?>\n<BlockList>{list}</BlockList>");
        self.put(&format!("{}&comp=blocklist", place.path), &[], &list).await
    }

    async fn end(&self, id: &str, place: &Place, success: bool) -> Answer {
        let body = format!(r#"{{"correlationId":"{}","isSuccess":{success}}}"#, place.correlation);
        self.as_device(id, &format!("POST /devices/{id}/files/notifications/"), &body).await
    }

    async fn read(&self, file: &str) -> Answer {
        self.call("service", &format!("GET /ostler/v1/files/{file}"), &[], "").await
    }

    async fn list(&self, query: &str) -> String {
        let answer = self.call("service", &format!("GET /ostler/v1/files{query}"), &[], "").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        redact(&answer.body, &["etag", "sha256"])
    }

    async fn on(folder: &Path) -> TestHub {
        TestHub::start_with(|config| config.data = Data::Folder(folder.to_owned())).await
    }
}

fn code(answer: &Answer) -> (u16, &str) {
    (
        answer.status,
        answer.header("x-ms-error-code").or(answer.header("iothub-errorcode")).unwrap_or_default(),
    )
}

fn files(path: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    let entries = entries.map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

#[tokio::test]
async fn a_file_is_uploaded_shown_read_and_deleted() {
    let hub = TestHub::start().await;
    hub.register("d").await;
    let mut events = hub.running.app().hub.events().subscribe();
    let place = hub.begin("d", "logs/2026 11.txt").await;
    assert_eq!(hub.list("").await, "[]", "nothing before it is stored");
    let path = place.path.replace(' ', "%20");
    let stored = hub.put(&path, &[("x-ms-blob-type", "BlockBlob"), ("Content-MD5", "")], "hello file").await;
    assert_eq!(stored.status, 201, "{}", stored.body);
    for header in ["etag", "last-modified", "x-ms-request-id", "x-ms-version"] {
        assert!(stored.header(header).is_some(), "{header}");
    }
    assert_eq!(hub.end("d", &place, true).await.status, 204);
    assert_eq!(hub.end("d", &place, true).await.status, 204, "said again, because the answer was lost");
    insta::assert_snapshot!(hub.list("").await, @r#"[{"deviceId":"d","name":"logs/2026 11.txt","size":10,"lastModified":"<time>","etag":"…","sha256":"…","contentType":"application/json; charset=utf-8"}]"#);
    let read = hub.read("d/logs/2026%2011.txt").await;
    assert_eq!((read.status, read.body.as_str()), (200, "hello file"));
    assert_eq!(read.header("content-type"), Some("application/octet-stream"));
    assert_eq!(read.header("etag"), stored.header("etag"));
    let range = [("Range", "bytes=6-"), ("If-Range", stored.header("etag").unwrap())];
    let part = hub.call("service", "GET /ostler/v1/files/d/logs%2F2026%2011.txt", &range, "").await;
    assert_eq!((part.status, part.body.as_str()), (206, "file"));
    assert_eq!(part.header("content-range"), Some("bytes 6-9/10"));
    let beyond =
        hub.call("service", "GET /ostler/v1/files/d/logs/2026%2011.txt", &[("Range", "bytes=10-")], "");
    assert_eq!(beyond.await.status, 416);
    let mut told = 0;
    while let Ok(event) = events.try_recv() {
        told += usize::from(event.kind.group() == "file");
    }
    assert_eq!(told, 1, "one upload is told once");
    let delete =
        async || hub.call("service", "DELETE /ostler/v1/files/d/logs/2026%2011.txt", &[], "").await.status;
    assert_eq!(delete().await, 204);
    assert_eq!(delete().await, 404);
    assert_eq!(hub.read("d/logs/2026%2011.txt").await.status, 404);
}

#[tokio::test]
async fn blocks_become_a_file_in_the_order_of_the_list_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let hub = TestHub::on(folder.path()).await;
    hub.register("d").await;
    let place = hub.begin("d", "f").await;
    for (id, body) in [("MDI=", "three"), ("MDA=", "wrong"), ("MDA%3D", "one"), ("MDE%3D", "two")] {
        assert_eq!(hub.put_block(&place, id, body).await.status, 201);
    }
    assert_eq!(hub.list("").await, "[]");
    assert_eq!(code(&hub.end("d", &place, true).await), (400, "InvalidStorageEndpointOrBlob"));
    let missing = hub.put_list(&place, &["MDA=", "MDk="]).await;
    assert_eq!(code(&missing), (400, "InvalidBlockList"));
    assert!(missing.body.contains("place 1 of the list"), "{}", missing.body);
    assert_eq!(hub.list("").await, "[]");
    let stored = hub.put_list(&place, &["MDA=", "MDE=", "MDI="]).await;
    assert_eq!(stored.status, 201, "{}", stored.body);
    let again = hub.put_list(&place, &["MDA=", "MDE=", "MDI="]).await;
    assert_eq!((again.status, again.header("etag")), (201, stored.header("etag")), "its answer was lost");
    assert_eq!(hub.read("d/f").await.body, "onetwothree");
    assert_eq!(hub.end("d", &place, true).await.status, 204);
    assert_eq!(files(&folder.path().join("files")), 1, "no blocks are left");
    assert_eq!(code(&hub.put_file(&place, "late").await), (403, "AuthenticationFailed"));
    assert_eq!(hub.read("d/f").await.body, "onetwothree");
}

#[tokio::test]
async fn a_signature_is_for_one_file_and_one_time() {
    let hub = TestHub::start().await;
    hub.register("d").await;
    let place = hub.begin("d", "f").await;
    let (path, query) = place.path.split_once('?').unwrap();
    let headers = [("x-ms-blob-type", "BlockBlob")];
    let late = query.replace("se=20", "se=21");
    for request in [
        path.to_owned(),
        format!("/uploads/d/g?{query}"),
        format!("/uploads/e/f?{query}"),
        format!("/uploads/d/x/../f?{query}"),
        format!("/uploads/d%2Fx%2F..%2Ff?{query}"),
        format!("{path}?{late}"),
        format!("{path}?{}", query.replace("sig=", "sig=A")),
        format!("{path}?{}", query.replace(&place.correlation, &"0".repeat(32))),
    ] {
        let answer = hub.put(&request, &headers, "x").await;
        assert!(matches!(answer.status, 400 | 403), "{request}: {}", answer.body);
        assert!(answer.body.contains("<Error><Code>"), "{}", answer.body);
    }
    assert_eq!(hub.list("").await, "[]");
    // Encoded as some clients do, and in another order.
    let request = format!("/uploads/d%2Ff?{}", query.split('&').rev().collect::<Vec<_>>().join("&"));
    assert_eq!(hub.put(&request, &headers, "x").await.status, 201);
}

#[tokio::test]
async fn requests_that_are_not_understood_store_nothing() {
    let hub = TestHub::start().await;
    hub.register("d").await;
    let place = hub.begin("d", "f").await;
    let block = [("x-ms-blob-type", "BlockBlob")];
    for (suffix, headers, expected) in [
        ("", &[][..], (400, "MissingRequiredHeader")),
        ("", &[("x-ms-blob-type", "PageBlob")], (400, "InvalidHeaderValue")),
        ("&comp=lease", &block, (400, "InvalidQueryParameterValue")),
        ("&comp=block", &[], (400, "InvalidBlockId")),
        ("&comp=block&blockid=..%2F..%2Fetc", &[], (400, "InvalidBlockId")),
        ("&comp=blocklist", &[], (400, "InvalidXmlDocument")),
        ("", &[("x-ms-blob-type", "BlockBlob"), ("If-Match", "\"x\"")], (400, "UnsupportedHeader")),
    ] {
        let answer = hub.put(&format!("{}{suffix}", place.path), headers, "x").await;
        assert_eq!(code(&answer), expected, "{suffix}");
    }
    assert_eq!(hub.list("").await, "[]");
    let only_new = [("x-ms-blob-type", "BlockBlob"), ("If-None-Match", "*")];
    assert_eq!(hub.put(&place.path, &only_new, "one").await.status, 201);
    assert_eq!(code(&hub.put(&place.path, &only_new, "two").await), (409, "BlobAlreadyExists"));
    assert_eq!(hub.read("d/f").await.body, "one");
    assert_eq!(hub.put_file(&place, "three").await.status, 201);
    assert_eq!(hub.read("d/f").await.body, "three");
    assert_eq!(hub.connect().await.call(&format!("GET {}", place.path), &[], "").await.status, 405);
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let hub = TestHub::on(folder.path()).await;
    hub.register("d").await;
    let place = hub.begin("d", "f").await;
    let mut client = hub.connect().await;
    let head = format!(
        "PUT {} HTTP/1.1\r\nHost: localhost\r\nx-ms-blob-type: BlockBlob\r\nContent-Length: 500000\r\n\r\n",
        place.path
    );
    client.send(&format!("{head}{}", "x".repeat(200_000))).await;
    drop(client);
    while hub.running.app().hub.file_counts().bytes != 0 || files(&folder.path().join("files")) != 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(hub.list("").await, "[]");
}

#[tokio::test]
async fn bounds() {
    let hub = TestHub::start_with(|config| {
        config.limits.file_size = 100_000;
        config.limits.files_total = 150_000;
    })
    .await;
    hub.register("d").await;
    let held = || hub.running.app().hub.file_counts().bytes;
    let place = hub.begin("d", "f").await;
    assert_eq!(code(&hub.put_file(&place, &"x".repeat(100_001)).await), (413, "RequestBodyTooLarge"));
    assert_eq!(hub.put_file(&place, &"x".repeat(100_000)).await.status, 201);
    let other = hub.begin("d", "g").await;
    assert_eq!(code(&hub.put_file(&other, &"x".repeat(60_000)).await), (507, "InsufficientStorage"));
    assert_eq!(held(), 100_000);
    assert_eq!(hub.put_block(&other, "MDA=", &"x".repeat(40_000)).await.status, 201);
    assert_eq!(held(), 140_000);
    // The same block over and over would be more than a file may have.
    assert_eq!(code(&hub.put_list(&other, &["MDA="; 3]).await), (413, "RequestBodyTooLarge"));
    assert_eq!(hub.end("d", &other, false).await.status, 204);
    assert_eq!(held(), 100_000, "what an upload that failed had sent is given back");
    // The file's own place may be taken by its successor once there is room for both.
    assert_eq!(hub.put_file(&place, &"y".repeat(50_000)).await.status, 201);
    assert_eq!(held(), 50_000);
    hub.call("service", "DELETE /ostler/v1/files/d/f", &[], "").await;
    assert_eq!(held(), 0);
}

/// A small block named often enough would fill the disk, which the hub's own store needs.
#[tokio::test]
async fn a_list_that_would_be_too_much_is_not_begun() {
    let hub = TestHub::start_with(|config| config.limits.file_size = 60_000).await;
    hub.register("d").await;
    let place = hub.begin("d", "f").await;
    assert_eq!(hub.put_block(&place, "MDA=", &"x".repeat(50_000)).await.status, 201);
    let written = || {
        let counts = std::fs::read_to_string("/proc/self/io").unwrap();
        let count = counts.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap();
        count.parse::<u64>().unwrap()
    };
    let before = written();
    assert_eq!(code(&hub.put_list(&place, &["MDA="; 2000]).await), (413, "RequestBodyTooLarge"));
    assert!(written() - before < 20_000_000, "{} bytes were written", written() - before);
    assert_eq!(hub.put_list(&place, &["MDA="]).await.status, 201, "the blocks are still there");
    assert_eq!(hub.running.app().hub.file_counts().bytes, 50_000);
}

#[tokio::test]
async fn a_body_does_not_outlive_its_upload() {
    let hub = TestHub::start_with(|config| {
        config.limits.file_upload_lifetime = Duration::from_secs(3);
        config.limits.http_body_timeout = Duration::from_secs(3600);
    })
    .await;
    hub.register("d").await;
    let place = hub.begin("d", "f").await;
    let mut client = hub.connect().await;
    let head = "Host: localhost\r\nx-ms-blob-type: BlockBlob\r\nContent-Length: 9\r\n\r\n";
    client.send(&format!("PUT {} HTTP/1.1\r\n{head}half", place.path)).await;
    assert_eq!(code(&client.answer(false).await), (408, "OperationTimedOut"));
    assert_eq!(hub.list("").await, "[]");
}

#[tokio::test]
async fn a_device_has_ten_uploads_in_progress() {
    let hub = TestHub::start().await;
    hub.register("d").await;
    hub.register("e").await;
    let mut places = Vec::new();
    for number in 0..10 {
        places.push(hub.begin("d", &format!("f{number}")).await);
    }
    let body = r#"{"blobName":"one-more"}"#;
    let refused = hub.as_device("d", "POST /devices/d/files", body).await;
    assert_eq!(code(&refused), (403, "DeviceMaximumActiveFileUploadLimitExceeded"));
    assert_eq!(hub.as_device("e", "POST /devices/e/files/", body).await.status, 200);
    assert_eq!(hub.end("d", &places[3], false).await.status, 204);
    assert_eq!(hub.as_device("d", "POST /devices/d/files", body).await.status, 200);
    let foreign = hub.end("e", &places[4], false).await;
    assert_eq!(code(&foreign), (400, "InvalidFileUploadCorrelationId"), "of another device");
}

#[tokio::test]
async fn who_may_upload() {
    let hub = TestHub::patient().await;
    hub.register("d").await;
    hub.register("e").await;
    let body = r#"{"blobName":"f"}"#;
    let start = async |token: &str| {
        let headers = [("Authorization", token)];
        hub.connect().await.call("POST /devices/d/files?api-version=2016-11-14", &headers, body).await.status
    };
    assert_eq!(start(&hub.device_token("d")).await, 200);
    assert_eq!(start(&hub.device_token("e")).await, 401);
    assert_eq!(start(&hub.token("device")).await, 200);
    assert_eq!(start(&hub.token_for("localhost/devices", "device")).await, 200);
    assert_eq!(start(&hub.token("service")).await, 401);
    assert_eq!(start("").await, 401);
    hub.call("iothubowner", "PUT /devices/d", &[("If-Match", "*")], &format!(r#"{{"status":"disabled","authentication":{{"symmetricKey":{{"primaryKey":"{KEY}","secondaryKey":"{KEY}"}}}}}}"#)).await;
    assert_eq!(start(&hub.device_token("d")).await, 401);
    let unknown = async |policy: &str| hub.call(policy, "POST /devices/nobody/files", &[], body).await.status;
    assert_eq!((unknown("device").await, unknown("service").await), (404, 401));
}

#[tokio::test]
async fn what_is_acknowledged_survives_and_what_is_not_goes() {
    let folder = tempfile::tempdir().unwrap();
    let hub = TestHub::on(folder.path()).await;
    hub.register("d").await;
    let (done, open) = (hub.begin("d", "done").await, hub.begin("d", "open").await);
    assert_eq!(hub.put_file(&done, "whole").await.status, 201);
    assert_eq!(hub.put_block(&open, "MDA=", "one").await.status, 201);
    hub.running.stop().await;
    let content = folder.path().join("files/content");
    std::fs::create_dir_all(content.join("00")).unwrap();
    std::fs::write(content.join("00").join("0".repeat(32)), "what a crash left").unwrap();

    let hub = TestHub::on(folder.path()).await;
    assert_eq!(files(&content), 1, "what no document names is gone");
    assert_eq!(hub.read("d/done").await.body, "whole");
    assert_eq!(hub.running.app().hub.file_counts().bytes, 8);
    assert_eq!(hub.put_block(&open, "MDE=", "two").await.status, 201);
    assert_eq!(hub.put_list(&open, &["MDA=", "MDE="]).await.status, 201);
    assert_eq!(hub.read("d/open").await.body, "onetwo");
    assert_eq!(hub.end("d", &open, true).await.status, 204);
    assert_eq!(hub.end("d", &done, true).await.status, 204);
}

#[tokio::test]
async fn what_is_over_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    let hub = TestHub::start_with(|config| {
        config.data = Data::Folder(folder.path().to_owned());
        config.limits.file_upload_lifetime = Duration::ZERO;
    })
    .await;
    hub.register("d").await;
    let place = hub.begin("d", "f").await;
    let late = hub.put_file(&place, "x").await;
    assert_eq!(code(&late), (403, "AuthenticationFailed"));
    assert!(late.body.contains("expired"), "{}", late.body);
    assert_eq!(code(&hub.end("d", &place, false).await), (400, "ExpiredFileUploadCorrelationId"));
    for _ in 0..11 {
        hub.begin("d", "f").await;
    }
    assert_eq!(hub.running.app().hub.sweep_files().await.unwrap(), 12);
    assert_eq!(hub.running.app().hub.file_counts().uploads, 0);
    assert_eq!(code(&hub.end("d", &place, false).await), (400, "InvalidFileUploadCorrelationId"));
}

#[tokio::test]
async fn a_list_comes_in_pages() {
    let hub = TestHub::start().await;
    for device in ["a", "b"] {
        hub.register(device).await;
        for name in ["x", "y"] {
            let place = hub.begin(device, name).await;
            assert_eq!(hub.put_file(&place, name).await.status, 201);
        }
    }
    let page = async |query: &str, token: &str| {
        let headers = [("x-ms-max-item-count", "3"), ("x-ms-continuation", token)];
        hub.call("service", &format!("GET /ostler/v1/files{query}"), &headers, "").await
    };
    let names = |answer: &Answer| answer.body.matches("\"name\"").count();
    let first = page("", "").await;
    let token = first.header("x-ms-continuation").unwrap();
    let second = page("", token).await;
    assert_eq!((names(&first), names(&second), second.header("x-ms-continuation")), (3, 1, None));
    let of_b = page("?device=b", "").await;
    assert_eq!((names(&of_b), of_b.header("x-ms-continuation")), (2, None));
    assert_eq!(names(&page("?device=b", token).await), 1, "the token names a place");
    assert_eq!(page("", "x").await.status, 400);
    assert_eq!(hub.call("device", "GET /ostler/v1/files", &[], "").await.status, 401);
}

#[tokio::test]
async fn the_port_that_a_device_dialled_is_the_one_it_is_sent_to() {
    let hub = TestHub::start().await;
    hub.register("d").await;
    let token = hub.device_token("d");
    for (host, expected) in [
        ("localhost:8443", "localhost:8443"),
        ("LOCALHOST:443", "LOCALHOST"),
        ("evil.example:1", "localhost:1"),
    ] {
        let mut client = hub.connect().await;
        let body = r#"{"blobName":"f"}"#;
        client
            .send(&format!(
                "POST /devices/d/files?api-version=2021-04-12 HTTP/1.1\r\nHost: {host}\r\nAuthorization: {token}\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            ))
            .await;
        let answer = client.answer(false).await;
        assert!(answer.body.contains(&format!(r#""hostName":"{expected}""#)), "{}", answer.body);
    }
}

#[tokio::test]
async fn an_ephemeral_hub_leaves_no_files() {
    let hub = TestHub::start().await;
    hub.register("d").await;
    let place = hub.begin("d", "f").await;
    assert_eq!(hub.put_file(&place, "x").await.status, 201);
    let prefix = format!("ostler-files-{}-", std::process::id());
    let mine = || {
        let entries = std::fs::read_dir(std::env::temp_dir()).unwrap();
        entries
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(&prefix))
            .count()
    };
    assert!(mine() > 0);
    hub.running.stop().await;
    // Other tests of this process may have theirs; cargo-nextest runs each test in a process of its own.
    if std::env::var_os("NEXTEST").is_some() {
        while mine() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_backup_has_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let hub = TestHub::on(&folder.path().join("data")).await;
    hub.register("d").await;
    let place = hub.begin("d", "f").await;
    assert_eq!(hub.put_file(&place, "kept").await.status, 201);
    let copy = folder.path().join("copy");
    let body = format!(r#"{{"path":"{}"}}"#, copy.display());
    assert_eq!(hub.call("iothubowner", "POST /ostler/v1/backup", &[], &body).await.status, 200);
    hub.call("service", "DELETE /ostler/v1/files/d/f", &[], "").await;
    hub.running.stop().await;
    let hub = TestHub::on(&copy).await;
    assert_eq!(hub.read("d/f").await.body, "kept");
}
