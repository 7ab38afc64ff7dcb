//! A scripted HTTP server on a loopback port, and a client of it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ostler_service_sdk::{Client, DeviceId, EntityId, RetryPolicy};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What the server does with one request.
pub enum Reply {
    /// Answers.
    Answer(u16, &'static str, String),
    /// Begins to answer and goes on forever without another byte.
    Open(&'static str),
    /// Closes the connection without an answer.
    HangUp,
    /// Never answers.
    Silence,
}

pub fn answer(status: u16, body: Value) -> Reply {
    Reply::Answer(status, "", body.to_string())
}

/// A request as it came over the socket.
#[derive(Debug, Clone)]
pub struct Seen {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

pub struct Hub {
    pub client: Client,
    pub seen: Arc<Mutex<Vec<Seen>>>,
}

impl Hub {
    pub async fn start(script: impl IntoIterator<Item = Reply>) -> Self {
        let script: VecDeque<Reply> = script.into_iter().collect();
        let script = Arc::new(Mutex::new(script));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let log = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, script.clone(), log.clone()));
            }
        });
        Self { client: client(port), seen }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }
}

pub fn client(port: u16) -> Client {
    Client::builder(&format!(
        "HostName=127.0.0.1:{port};SharedAccessKeyName=service;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw=="
    ))
    .unwrap()
    .plain_http()
    .timeout(Duration::from_millis(300))
    .retry(RetryPolicy {
        max_attempts: 3,
        first_wait: Duration::from_millis(1),
        max_wait: Duration::from_millis(2),
        budget: Duration::from_secs(1),
    })
    .build()
    .unwrap()
}

/// Serves one connection, keep-alive, a scripted reply per request.
pub async fn converse(stream: TcpStream, script: Arc<Mutex<VecDeque<Reply>>>, log: Arc<Mutex<Vec<Seen>>>) {
    let mut stream = BufReader::new(stream);
    while let Some(seen) = read_request(&mut stream).await {
        log.lock().unwrap().push(seen);
        let reply = script.lock().unwrap().pop_front();
        match reply {
            None | Some(Reply::HangUp) => return,
            Some(Reply::Silence) => std::future::pending().await,
            Some(Reply::Open(text)) => {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n{text}");
                stream.write_all(head.as_bytes()).await.unwrap();
                std::future::pending().await
            }
            Some(Reply::Answer(status, headers, body)) => {
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(body.as_bytes()).await.unwrap();
            }
        }
    }
}

pub async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut line = String::new();
    if stream.read_line(&mut line).await.ok()? == 0 {
        return None;
    }
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await.ok()?;
        match header.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.to_owned())),
            None => break,
        }
    }
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, n)| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    Some(Seen { line, headers, body })
}

pub fn device_id(id: &str) -> DeviceId {
    DeviceId::new(id).unwrap()
}

pub fn entity(id: &str) -> EntityId {
    EntityId::parse(id).unwrap()
}
