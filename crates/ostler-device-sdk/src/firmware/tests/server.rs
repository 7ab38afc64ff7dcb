//! An HTTP server that answers whatever a test wants, byte by byte, and remembers what it was asked.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// A request.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    /// First and last byte.
    pub range: Option<(u64, u64)>,
    pub if_range: Option<String>,
    pub at: Instant,
    /// How many came before.
    pub number: usize,
}

/// Runs until the process ends.
pub struct Server {
    port: u16,
    log: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// `answer` makes the bytes of each answer; the connection is closed behind them.
    pub fn start(answer: impl Fn(&Asked) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let log: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let seen = log.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let number = seen.lock().unwrap().len();
                // A client that was killed amid a request is no reason to stop.
                if let Some(asked) = read(&stream, number) {
                    seen.lock().unwrap().push(asked.clone());
                    let _ = (&stream).write_all(&answer(&asked));
                    let _ = stream.shutdown(Shutdown::Write);
                }
            }
        });
        Self { port, log }
    }

    /// A server that does everything right.
    pub fn good(image: Vec<u8>) -> Self {
        Self::start(move |asked| serve(&image, "\"v1\"", asked))
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }
}

fn read(stream: &TcpStream, number: usize) -> Option<Asked> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut asked = Asked { path, range: None, if_range: None, at: Instant::now(), number };
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let (start, end) = value.strip_prefix("bytes=")?.split_once('-')?;
                asked.range = Some((start.parse().ok()?, end.parse().ok()?));
            }
            "if-range" => asked.if_range = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(asked)
}

/// What a good server answers.
pub fn serve(image: &[u8], etag: &str, asked: &Asked) -> Vec<u8> {
    let current = asked.if_range.as_ref().is_none_or(|known| known == etag);
    match asked.range {
        Some((start, end)) if current => {
            let end = end.min(image.len() as u64 - 1);
            let part = &image[start as usize..=end as usize];
            let range = format!("bytes {start}-{end}/{}", image.len());
            answer("206 Partial Content", &[("ETag", etag), ("Content-Range", &range)], part)
        }
        _ => answer("200 OK", &[("ETag", etag)], image),
    }
}

/// An answer with its length.
pub fn answer(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n", body.len()).into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}
