//! The head of an HTTP answer to a handshake: status line and headers, read off a stream that turns into something else
//! behind it.
//!
//! Invariant: no more than [`MAX_BYTES`] are read.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

const MAX_BYTES: usize = 8 << 10;
/// Longer waits are not believed.
const LONGEST_WAIT_SECS: u64 = 3600;

pub(super) struct Head(String);

impl Head {
    /// Reads to the empty line. What came behind it belongs to what the stream turns into.
    pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(Self, Vec<u8>)> {
        let mut bytes = Vec::with_capacity(512);
        loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                let rest = bytes.split_off(end + 4);
                return Ok((Self(String::from_utf8_lossy(&bytes).into_owned()), rest));
            }
            if bytes.len() >= MAX_BYTES {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "its answer has no end"));
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before it answered"));
            }
        }
    }

    /// None if it is not HTTP/1.
    pub(super) fn status(&self) -> Option<u16> {
        let line = self.0.lines().next()?;
        let (version, rest) = line.split_once(' ')?;
        version.strip_prefix("HTTP/1.")?;
        rest.split(' ').next()?.parse().ok()
    }

    #[cfg(any(feature = "websocket", test))]
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// In seconds; the form with a date is not used by hubs.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let (_, value) = self.headers().find(|(key, _)| key.eq_ignore_ascii_case("retry-after"))?;
        let secs: u64 = value.parse().ok()?;
        Some(Duration::from_secs(secs.min(LONGEST_WAIT_SECS)))
    }

    fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':').map(|(key, value)| (key.trim(), value.trim())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reads_up_to_the_empty_line() {
        let text = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nX: a:b\r\n\r\nrest";
        let (head, rest) = Head::read(&mut &text[..]).await.unwrap();
        assert_eq!(
            (head.status(), head.header("x"), rest.as_slice()),
            (Some(503), Some("a:b"), &b"rest"[..])
        );
        assert_eq!(head.retry_after(), Some(Duration::from_secs(7)));
    }

    #[tokio::test]
    async fn what_has_no_end_or_breaks_off_is_refused() {
        let endless = vec![b'x'; MAX_BYTES * 2];
        assert_eq!(Head::read(&mut &endless[..]).await.err().unwrap().kind(), io::ErrorKind::InvalidData);
        let half = b"HTTP/1.1 200 OK\r\n";
        assert_eq!(Head::read(&mut &half[..]).await.err().unwrap().kind(), io::ErrorKind::UnexpectedEof);
        let (head, _) = Head::read(&mut &b"SSH-2.0-x\r\n\r\n"[..]).await.unwrap();
        assert_eq!(head.status(), None);
    }
}
