//! A hub in memory with a plain HTTP listener, and a client that shows what was really sent.

use crate::config::{Compat, Config};
use crate::{Running, Server};
use ostler_core::auth::Credential;
use ostler_core::id::EntityId;
use ostler_core::identity::SymmetricKey;
use ostler_core::record::{Delivery, Interest};
use ostler_core::sas::sign;
use ostler_core::time::Timestamp;
use ostler_hub::access::{ConnectRequest, Peer};
use ostler_hub::session::News;
use std::future::poll_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The key that test devices are registered with.
pub(super) const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

pub(super) struct TestHub {
    pub(super) running: Running,
}

impl TestHub {
    pub(super) async fn start() -> TestHub {
        TestHub::start_with(|_| {}).await
    }

    pub(super) async fn strict() -> TestHub {
        TestHub::start_with(|config| config.compat = Compat::Strict).await
    }

    /// One that lets an address fail to sign in as often as a test needs.
    pub(super) async fn patient() -> TestHub {
        TestHub::start_with(|config| config.limits.sign_in_failure_burst = 100_000).await
    }

    pub(super) async fn start_with(adjust: impl FnOnce(&mut Config)) -> TestHub {
        let mut config = Config::ephemeral();
        config.listen.plain_http = Some(0);
        adjust(&mut config);
        TestHub { running: Server::start(config).await.unwrap() }
    }

    pub(super) async fn connect(&self) -> Client {
        let address = self.running.addresses().plain_http.unwrap();
        Client { stream: TcpStream::connect(address).await.unwrap(), unread: Vec::new() }
    }

    /// A token of a policy, for the whole hub.
    pub(super) fn token(&self, policy: &str) -> String {
        self.token_for("localhost", policy)
    }

    pub(super) fn token_for(&self, resource: &str, policy: &str) -> String {
        let key = self.running.app().hub.policy(policy).unwrap().primary;
        sign(resource, &key, self.in_an_hour(), Some(policy))
    }

    fn in_an_hour(&self) -> Timestamp {
        self.running.app().hub.now().plus_secs(3600)
    }

    /// Registers a device with the test key.
    pub(super) async fn register(&self, id: &str) {
        let body = format!(
            r#"{{"authentication":{{"symmetricKey":{{"primaryKey":"{KEY}","secondaryKey":"{KEY}"}}}}}}"#
        );
        let answer = self.call("iothubowner", &format!("PUT /devices/{id}"), &[], &body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    /// One request on a connection of its own.
    pub(super) async fn call(
        &self,
        policy: &str,
        line: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let token = self.token(policy);
        let mut all = vec![("Authorization", token.as_str())];
        all.extend(headers);
        self.connect().await.call(&versioned(line), &all, body).await
    }

    /// Connects a device that answers each method call with its payload and status 200, except the method `hang`, which
    /// it leaves unanswered.
    pub(super) async fn device(&self, id: &str) {
        self.register(id).await;
        self.device_again(id).await;
    }

    /// Connects a device that is registered.
    pub(super) async fn device_again(&self, id: &str) {
        let hub = self.running.app().hub.clone();
        let id = EntityId::parse(id).unwrap();
        let key = SymmetricKey::from_base64(KEY).unwrap();
        let token = sign(&format!("localhost/devices/{id}"), &key, self.in_an_hour(), None);
        let credential = Credential { token: Some(&token), certificate: None };
        let peer = Peer { addr: None, transport: "test" };
        let request = ConnectRequest { clean_session: true, model_id: None, peer };
        let mut session = hub.connect(&id, credential, request).await.unwrap();
        let wish = [(Interest::Methods, Some(Delivery::AtMostOnce))];
        hub.subscribe(session.state(), &wish).await.unwrap();
        tokio::spawn(async move {
            while let Ok(news) = poll_fn(|cx| session.poll_news(cx)).await {
                if let News::Call { id, name, payload } = news {
                    if name.as_str() != "hang" {
                        hub.answer(session.state(), id, 200, &payload);
                    }
                }
            }
        });
    }
}

/// Adds the api-version where one is wanted.
pub(super) fn versioned(line: &str) -> String {
    if line.contains("api-version=") || line.contains("/ostler/") {
        return line.to_owned();
    }
    let mark = if line.contains('?') { '&' } else { '?' };
    format!("{line}{mark}api-version=2021-04-12")
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The status line and the headers.
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// A client that keeps its connection.
pub(super) struct Client {
    pub(super) stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    pub(super) async fn call(&mut self, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut text = format!("{line} HTTP/1.1\r\nHost: localhost\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            text.push_str(&format!(
                "Content-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n",
                body.len()
            ));
        }
        self.send(&format!("{text}\r\n{body}")).await;
        self.answer(line.starts_with("HEAD")).await
    }

    pub(super) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads one answer; a connection that ends before shows as status 0.
    pub(super) async fn answer(&mut self, to_head: bool) -> Answer {
        let Some(end) = self.read_until(|bytes| find(bytes, b"\r\n\r\n")).await else {
            return Answer { status: 0, head: String::new(), body: String::new() };
        };
        let head = String::from_utf8(self.unread.drain(..end + 4).collect()).unwrap();
        let mut answer = Answer { status: head[9..12].parse().unwrap(), head, body: String::new() };
        if !to_head {
            let length = answer.header("content-length").map_or(0, |text| text.parse().unwrap());
            self.read_until(|bytes| (bytes.len() >= length).then_some(length)).await.unwrap();
            answer.body = String::from_utf8(self.unread.drain(..length).collect()).unwrap();
        }
        answer
    }

    /// Reads until `at` finds its place; `None` if the connection ends first.
    pub(super) async fn read_until(&mut self, at: impl Fn(&[u8]) -> Option<usize>) -> Option<usize> {
        loop {
            if let Some(place) = at(&self.unread) {
                return Some(place);
            }
            if self.stream.read_buf(&mut self.unread).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub(super) fn unread(&self) -> &[u8] {
        &self.unread
    }
}

pub(super) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Replaces what differs from run to run: times, tracking ids, and the values of the named members.
pub(super) fn redact(text: &str, members: &[&str]) -> String {
    let mut text = text.to_owned();
    for member in members {
        let (mark, mut from) = (format!("\"{member}\":\""), 0);
        while let Some(at) = text[from..].find(&mark) {
            let start = from + at + mark.len();
            let end = start + text[start..].find('"').unwrap();
            text.replace_range(start..end, "…");
            from = start;
        }
    }
    redact_tracking(&redact_times(&text))
}

fn redact_times(text: &str) -> String {
    let is_time = |text: &str| text.starts_with("20") && text.ends_with('Z') && &text[10..11] == "T";
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        match rest.get(..28).filter(|head| is_time(head)) {
            Some(_) => {
                out.push_str("<time>");
                rest = &rest[28..];
            }
            None => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    out
}

fn redact_tracking(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("-G:0-TimeStamp:") {
        out.push_str(&rest[..at.saturating_sub(32)]);
        out.push_str("<id>");
        rest = &rest[at..];
        out.push_str(&rest[..15]);
        rest = &rest[15..];
    }
    out + rest
}
