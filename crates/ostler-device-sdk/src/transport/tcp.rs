//! A TCP connection to the first of a host's addresses that takes one.
//!
//! Invariant: at most [`MAX_ADDRESSES`] addresses are tried, a new one every [`HEAD_START`] or as soon as one fails.
//! Invariant: at most [`LOOKUPS`] names are looked up at once in the process; each takes a thread of the runtime.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Sleep;

use super::{DialError, DialKind};

/// RFC 8305 §5.
const HEAD_START: Duration = Duration::from_millis(250);
const MAX_ADDRESSES: usize = 8;
const LOOKUPS: usize = 4;

static LOOKING_UP: Semaphore = Semaphore::const_new(LOOKUPS);

/// Connects with small packets sent at once.
pub(super) async fn connect(host: &str, port: u16, loopback_only: bool) -> Result<TcpStream, DialError> {
    let addresses = resolve(host, port).await?;
    if loopback_only && !addresses.iter().all(|address| address.ip().is_loopback()) {
        let text = format!(
            "{host} is not this machine: without TLS the device's key and data could be read on the way"
        );
        return Err(DialError::new(DialKind::NotLoopback, text));
    }
    let tcp = Race::new(addresses).await.map_err(|error| {
        let kind = match error.kind() {
            io::ErrorKind::TimedOut => DialKind::Timeout,
            _ => DialKind::Refused,
        };
        DialError::new(kind, format!("cannot connect to {host}:{port}: {error}"))
    })?;
    // Not worth failing for.
    let _ = tcp.set_nodelay(true);
    Ok(tcp)
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let unknown =
        |why: String| DialError::new(DialKind::Dns, format!("cannot find the address of {host}: {why}"));
    let _permit = LOOKING_UP.acquire().await.map_err(|error| unknown(error.to_string()))?;
    let found = tokio::net::lookup_host((host, port)).await.map_err(|error| unknown(error.to_string()))?;
    let addresses = interleave(found);
    if addresses.is_empty() {
        return Err(unknown("it has none".to_owned()));
    }
    Ok(addresses)
}

/// The families take turns, in the order of the resolver (RFC 8305 §4).
fn interleave(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut rest: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !rest.contains(&address) {
            rest.push(address);
        }
    }
    let mut ordered: Vec<SocketAddr> = Vec::with_capacity(rest.len().min(MAX_ADDRESSES));
    while !rest.is_empty() && ordered.len() < MAX_ADDRESSES {
        let other = ordered.last().and_then(|last| rest.iter().position(|a| a.is_ipv4() != last.is_ipv4()));
        ordered.push(rest.remove(other.unwrap_or(0)));
    }
    ordered
}

type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// All attempts under way; the first success wins and ends the others.
struct Race {
    waiting: std::vec::IntoIter<SocketAddr>,
    running: Vec<Attempt>,
    next: Pin<Box<Sleep>>,
    last_error: io::Error,
}

impl Race {
    fn new(addresses: Vec<SocketAddr>) -> Self {
        let last_error = io::Error::new(io::ErrorKind::NotFound, "it has no address");
        let next = Box::pin(tokio::time::sleep(HEAD_START));
        let mut race = Self { waiting: addresses.into_iter(), running: Vec::new(), next, last_error };
        race.start();
        race
    }

    fn start(&mut self) -> bool {
        let Some(address) = self.waiting.next() else { return false };
        self.running.push(Box::pin(TcpStream::connect(address)));
        true
    }
}

impl Future for Race {
    type Output = io::Result<TcpStream>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let race = &mut *self;
        loop {
            let mut failed = false;
            let mut at = 0;
            while at < race.running.len() {
                match race.running[at].as_mut().poll(cx) {
                    Poll::Ready(Ok(tcp)) => return Poll::Ready(Ok(tcp)),
                    Poll::Ready(Err(error)) => {
                        race.last_error = error;
                        drop(race.running.swap_remove(at));
                        failed = true;
                    }
                    Poll::Pending => at += 1,
                }
            }
            let due = race.next.as_mut().poll(cx).is_ready();
            if !(failed || due || race.running.is_empty()) {
                return Poll::Pending;
            }
            if race.start() {
                race.next.as_mut().reset(tokio::time::Instant::now() + HEAD_START);
            } else if race.running.is_empty() {
                let error = std::mem::replace(&mut race.last_error, io::ErrorKind::NotFound.into());
                return Poll::Ready(Err(error));
            } else if !failed {
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn families_take_turns() {
        let all = ["[::1]:1", "[::2]:1", "127.0.0.1:1", "[::1]:1", "127.0.0.2:1", "[::3]:1"];
        let order = interleave(all.iter().map(|text| text.parse().unwrap()));
        let texts: Vec<String> = order.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["[::1]:1", "127.0.0.1:1", "[::2]:1", "127.0.0.2:1", "[::3]:1"]);
        let many = (1..40u8).map(|last| SocketAddr::from(([127, 0, 0, last], 1)));
        assert_eq!(interleave(many).len(), MAX_ADDRESSES);
    }

    #[tokio::test]
    async fn the_first_that_answers_wins() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let open = listener.local_addr().unwrap();
        let tcp = Race::new(vec![closed, open]).await.unwrap();
        assert_eq!(tcp.peer_addr().unwrap(), open);
        assert!(Race::new(vec![closed, closed]).await.is_err());
        assert!(Race::new(Vec::new()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_gives_the_next_a_chance() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let mut race = Race::new(vec![open]);
        race.running.insert(0, Box::pin(std::future::pending()));
        drop(race.running.pop());
        race.waiting = vec![open].into_iter();
        assert_eq!(race.await.unwrap().peer_addr().unwrap(), open);
    }

    #[tokio::test]
    async fn plain_connections_stay_on_this_machine() {
        let error = connect("192.0.2.1", 1883, true).await.unwrap_err();
        assert_eq!(error.kind, DialKind::NotLoopback);
    }
}
