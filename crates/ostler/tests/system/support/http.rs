//! A blocking HTTP/1.1 client that signs its calls, and can also send anything at all.

use super::hub::PATIENCE;
use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use ring::hmac;
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{SystemTime, UNIX_EPOCH};

pub const API: &str = "api-version=2021-04-12";

/// The service door of a hub, with the credentials of a connection string and one kept connection.
pub struct Http {
    address: SocketAddr,
    pub host: String,
    token: String,
    connection: Option<BufReader<TcpStream>>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }
}

impl Http {
    pub fn new(address: SocketAddr, connection_string: &str) -> Self {
        let part = |name: &str| {
            let found =
                connection_string.split(';').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            found.unwrap_or_else(|| panic!("no {name} in the connection string")).to_owned()
        };
        let host = part("HostName");
        let token = sas(&host, &part("SharedAccessKey"), Some(&part("SharedAccessKeyName")), now() + 3600);
        Self { address, host, token, connection: None }
    }

    /// What goes into the `Authorization` header.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The same door with another `Authorization` header.
    pub fn with_token(&self, token: &str) -> Self {
        Self { address: self.address, host: self.host.clone(), token: token.into(), connection: None }
    }

    /// One call; `path` may bring its own query. A connection that turns out to be closed is an error, not a retry:
    /// whether the call took effect is then unknown, and only the test can judge that.
    pub fn call(&mut self, method: &str, path: &str, body: Option<&str>) -> io::Result<Answer> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let mut text = format!(
            "{method} {path}{separator}{API} HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\n",
            self.host, self.token
        );
        // A PUT with it would be an update, which needs the device to exist.
        if method != "PUT" {
            text += "If-Match: *\r\n";
        }
        if let Some(body) = body {
            text += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        text += "\r\n";
        text += body.unwrap_or_default();
        self.exchange(text.as_bytes())
    }

    /// Sends these bytes and reads one response.
    pub fn exchange(&mut self, bytes: &[u8]) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(self.address)?,
        };
        connection.get_mut().write_all(bytes)?;
        let answer = read_answer(&mut connection)?;
        if !answer.head.to_ascii_lowercase().contains("connection: close") {
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    /// Registers a device and returns its primary key.
    pub fn register(&mut self, device: &str) -> String {
        let answer = self.call("PUT", &format!("/devices/{device}"), Some(&create(device))).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["authentication"]["symmetricKey"]["primaryKey"].as_str().unwrap().to_owned()
    }
}

/// The body that creates a device with generated keys.
pub fn create(device: &str) -> String {
    format!(r#"{{"deviceId":"{device}","status":"enabled"}}"#)
}

fn connect(address: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(BufReader::new(stream))
}

/// Reads one response with a `Content-Length` or chunks.
pub fn read_answer(reader: &mut impl BufRead) -> io::Result<Answer> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let status =
        head.split(' ').nth(1).and_then(|text| text.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    let lower = head.to_ascii_lowercase();
    let length =
        lower.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let mut body = Vec::new();
    if let Some(length) = length {
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
    } else if lower.contains("transfer-encoding: chunked") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk)?;
            if size == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }
    Ok(Answer { status, head, body: String::from_utf8_lossy(&body).into_owned() })
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A shared access signature over `resource` that ends at `expiry` (seconds since 1970).
pub fn sas(resource: &str, key: &str, policy: Option<&str>, expiry: u64) -> String {
    let resource = percent(resource);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(key).unwrap());
    let signature = STANDARD.encode(hmac::sign(&key, format!("{resource}\n{expiry}").as_bytes()));
    let policy = policy.map_or_else(String::new, |name| format!("&skn={name}"));
    format!("SharedAccessSignature sr={resource}&sig={}&se={expiry}{policy}", percent(&signature))
}

fn percent(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.bytes()
        .map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
