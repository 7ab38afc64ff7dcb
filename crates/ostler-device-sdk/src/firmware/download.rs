//! Brings an image to the disk, chunk by chunk, through redirects, broken connections and restarts.
//!
//! Each request asks for one chunk, so that a power cut costs no more than that on the line either. A server without
//! ranges sends everything in one answer; there, a break starts from the beginning.
//!
//! Must not know: slots' meaning, what follows a download.
//!
//! Invariant: never more bytes are taken than were signed, and never more than one chunk is not durable.
//! Invariant: every wait and every repetition has a bound.

use std::future::Future;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::watch;

use super::failure::{Code, Failure};
use super::manifest::{Package, MAX_PACKAGE};
use super::state::Target;
use super::store::{too_long, Origin, Part, Store};
use super::url::resolve;
use crate::http::{HttpError, Https, Response};

/// Redirects that are followed for one request.
pub const MAX_REDIRECTS: u32 = 5;
/// Collected before it is written.
const WRITE: usize = 64 << 10;
/// The wait doubles up to this power of two.
const MAX_DOUBLINGS: u32 = 16;

/// How a download goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// Bytes asked for at once, and made durable at once; what a power cut may cost. Default 1 MiB.
    pub chunk: u64,
    /// How long a server may say nothing. Default 60 s.
    pub silence: Duration,
    /// The longest first wait after a failure; later ones are drawn from twice that, and so on. Default 1 s.
    pub first_wait: Duration,
    /// The longest wait, unless the server asks for more. Default 5 minutes.
    pub max_wait: Duration,
    /// Failures in a row without a new byte until the update fails. Default 30, which is about an hour.
    pub attempts: u32,
    /// Whether `http:` URLs may name other machines than this one: the image is signed, so it is only seen, not changed.
    pub plain_http: PlainHttp,
}

/// Which `http:` URLs are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlainHttp {
    /// Only those of this machine.
    #[default]
    Loopback,
    /// All.
    Anywhere,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            chunk: 1 << 20,
            silence: Duration::from_secs(60),
            first_wait: Duration::from_secs(1),
            max_wait: Duration::from_secs(300),
            attempts: 30,
            plain_http: PlainHttp::Loopback,
        }
    }
}

/// Why a download ended without its image.
#[derive(Debug)]
pub(super) enum Stop {
    /// For good.
    Failed(Failure),
    /// What the server sends is not what it sent before.
    Changed,
    /// Nobody wants it any more.
    CalledOff,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What goes wrong with one request.
enum Trouble {
    Stop(Stop),
    /// It may work later, not before `wait`.
    Later {
        why: String,
        wait: Option<Duration>,
    },
}

impl From<Stop> for Trouble {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Stop(Stop::Failed(failure))
    }
}

fn later(why: impl Into<String>) -> Trouble {
    Trouble::Later { why: why.into(), wait: None }
}

/// Downloads through the client's own trust and proxy.
#[derive(Debug, Clone)]
pub(super) struct Downloader {
    pub https: Https,
    pub store: Store,
    pub tuning: Tuning,
    /// Turns true when nobody wants it any more. It is looked at while the network is waited for, never amid a write.
    pub stop: watch::Receiver<bool>,
}

impl Downloader {
    /// Fetches a package document.
    pub async fn fetch(&self, uri: &str) -> Result<Package, Stop> {
        let mut tries = Tries::new(&self.tuning);
        loop {
            let result = async {
                let response = self.ask(uri, |request| request).await?;
                match response.status() {
                    200 => Ok(self.or_stop(response.bytes(MAX_PACKAGE)).await?.map_err(broken)?),
                    _ => Err(refused(&response)),
                }
            };
            match result.await {
                Ok(bytes) => {
                    let text = std::str::from_utf8(&bytes)
                        .map_err(|_| Failure::new(Code::BadPackage, "the package is not UTF-8"))?;
                    return Ok(Package::parse(text)?);
                }
                Err(Trouble::Stop(stop)) => return Err(stop),
                Err(Trouble::Later { why, wait }) => {
                    let wait = tries.fail(&why, wait)?;
                    self.or_stop(tokio::time::sleep(wait)).await?;
                }
            }
        }
    }

    /// Downloads what is missing of an image, and checks it. `progress` is told the bytes that are durable.
    pub async fn download(
        &self,
        target: &Target,
        base: Option<&str>,
        mut progress: impl FnMut(u64),
    ) -> Result<(), Stop> {
        let url = resolve(base, &target.url)?;
        let wanted = target.clone();
        let mut part = self.store.on_disk(move |store| store.part(&wanted)).await?;
        progress(part.durable);
        let mut tries = Tries::new(&self.tuning);
        let mut best = part.durable;
        while part.durable < target.size {
            let result = self.piece(&url, &mut part, &mut progress).await;
            if part.written > part.durable {
                self.with(&mut part, |store, part| store.commit(part)).await?;
            }
            progress(part.durable);
            if part.durable > best {
                best = part.durable;
                tries = Tries::new(&self.tuning);
            }
            match result {
                Ok(()) => {}
                Err(Trouble::Stop(stop)) => return Err(stop),
                Err(Trouble::Later { why, wait }) => {
                    tracing::debug!(bytes = part.durable, total = target.size, why, "download interrupted");
                    let wait = tries.fail(&why, wait)?;
                    self.or_stop(tokio::time::sleep(wait)).await?;
                }
            }
        }
        Ok(self.store.check(&part)?)
    }

    /// Asks for the next chunk and takes it in.
    async fn piece(&self, url: &str, part: &mut Part, progress: &mut impl FnMut(u64)) -> Result<(), Trouble> {
        let start = part.durable;
        let end = part.target.size.min(start + self.tuning.chunk.max(1));
        let strong = part.origin.as_ref().and_then(|origin| origin.etag.clone());
        let strong = strong.filter(|etag| start > 0 && !etag.starts_with("W/"));
        let response = self.ask(url, |request| {
            let request = request.range(start..end).header("accept-encoding", "identity");
            match &strong {
                Some(etag) => request.header("if-range", etag),
                None => request,
            }
        });
        let response = response.await?;
        let origin = Origin {
            etag: response.header("etag").map(str::to_owned),
            modified: response.header("last-modified").map(str::to_owned),
        };
        let same = part.origin.as_ref().is_none_or(|known| is_same(known, &origin));
        let whole = match response.status() {
            206 => false,
            200 => true,
            416 if start > 0 => return Err(Trouble::Stop(Stop::Changed)),
            _ => return Err(refused(&response)),
        };
        if !same {
            return Err(Trouble::Stop(Stop::Changed));
        }
        let total = if whole { response.content_length() } else { part_total(&response, start)? };
        if let Some(total) = total.filter(|total| *total != part.target.size) {
            // Before the first byte there is nothing it could have changed from.
            if start > 0 {
                return Err(Trouble::Stop(Stop::Changed));
            }
            let text = format!("the server's image has {total} bytes, {} were signed", part.target.size);
            return Err(Failure::new(Code::SizeMismatch, text).into());
        }
        if part.origin.is_none() || (whole && start > 0) {
            self.with(part, move |store, part| store.begin(part, origin)).await?;
        }
        let until = if whole { part.target.size } else { end };
        self.take(response, part, until, progress).await
    }

    /// Writes the body, and makes each chunk durable.
    async fn take(
        &self,
        mut response: Response,
        part: &mut Part,
        until: u64,
        progress: &mut impl FnMut(u64),
    ) -> Result<(), Trouble> {
        let mut buffer: Vec<u8> = Vec::with_capacity(WRITE);
        let before = part.durable;
        loop {
            let next = self.or_stop(response.chunk()).await?;
            let over = !matches!(next, Ok(Some(_)));
            if let Ok(Some(bytes)) = &next {
                let taken = part.written + buffer.len() as u64;
                if taken + bytes.len() as u64 > until {
                    return Err(too_long(&part.target).into());
                }
                buffer.extend_from_slice(bytes);
            }
            if buffer.len() >= WRITE || over || part.written + buffer.len() as u64 == until {
                let full = std::mem::replace(&mut buffer, Vec::with_capacity(WRITE));
                let chunk = self.tuning.chunk;
                self.with(part, move |store, part| {
                    store.append(part, &full)?;
                    if over || part.written - part.durable >= chunk || part.written == until {
                        store.commit(part)?;
                    }
                    Ok(())
                })
                .await?;
                progress(part.durable);
            }
            match next {
                Ok(Some(_)) => {}
                Ok(None) if part.durable > before => return Ok(()),
                Ok(None) => return Err(later("the server's answer was empty")),
                Err(error) => return Err(broken(error)),
            }
        }
    }

    /// A GET that follows redirects, to an answer that is none.
    async fn ask(
        &self,
        url: &str,
        with: impl Fn(crate::http::Request) -> crate::http::Request,
    ) -> Result<Response, Trouble> {
        let mut url = resolve(None, url)?;
        for _ in 0..=MAX_REDIRECTS {
            let mut request = with(self.https.get(&url)).timeout(self.tuning.silence);
            if self.tuning.plain_http == PlainHttp::Anywhere {
                request = request.allow_plain_http();
            }
            let response = self.or_stop(request.send()).await?.map_err(broken)?;
            if !matches!(response.status(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let location = response
                .header("location")
                .ok_or_else(|| Failure::new(Code::Redirects, "the server redirects, but not where to"))?;
            url = resolve(Some(&url), location)?;
        }
        let text = format!("the server redirects more than {MAX_REDIRECTS} times");
        Err(Failure::new(Code::Redirects, text).into())
    }

    async fn or_stop<T>(&self, work: impl Future<Output = T>) -> Result<T, Stop> {
        let mut stop = self.stop.clone();
        tokio::select! {
            result = work => Ok(result),
            Ok(_) = stop.wait_for(|stop| *stop) => Err(Stop::CalledOff),
        }
    }

    /// Works on the part away from the event loop.
    async fn with<T: Send + 'static>(
        &self,
        part: &mut Part,
        work: impl FnOnce(&Store, &mut Part) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let mut taken = part.clone();
        let (taken, result) = self
            .store
            .on_disk(move |store| {
                let result = work(store, &mut taken);
                Ok((taken, result))
            })
            .await?;
        *part = taken;
        result
    }
}

/// Whether two answers are of one content: by ETag where both have one, else by their dates.
fn is_same(known: &Origin, origin: &Origin) -> bool {
    match (&known.etag, &origin.etag) {
        (Some(known), Some(etag)) => known == etag,
        (None, None) => known.modified == origin.modified,
        _ => false,
    }
}

/// The whole length that a 206 tells, if it does; it must begin where it was asked to.
fn part_total(response: &Response, start: u64) -> Result<Option<u64>, Trouble> {
    let range = response.header("content-range").and_then(content_range);
    match range {
        Some((first, total)) if first == start => Ok(total),
        _ => {
            Err(Trouble::Later { why: "the server sent another range than asked for".to_owned(), wait: None })
        }
    }
}

/// First byte and total of `bytes 0-99/1000`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((first.parse().ok()?, total))
}

fn broken(error: HttpError) -> Trouble {
    match error {
        HttpError::Connect { text, retry_after, .. } => Trouble::Later { why: text, wait: retry_after },
        HttpError::Url { .. } | HttpError::Header(_) => Failure::new(Code::BadUrl, error.to_string()).into(),
        HttpError::TooLong { .. } => Failure::new(Code::BadPackage, error.to_string()).into(),
        error if error.is_transient() => later(error.to_string()),
        error => Failure::new(Code::Refused, error.to_string()).into(),
    }
}

fn refused(response: &Response) -> Trouble {
    match response.status() {
        status @ (408 | 425 | 429 | 500..=599) => {
            Trouble::Later { why: format!("the server answered {status}"), wait: response.retry_after() }
        }
        status => Failure::new(Code::Refused, format!("the server answered {status}")).into(),
    }
}

/// Failures in a row.
struct Tries {
    failed: u32,
    tuning: Tuning,
}

impl Tries {
    fn new(tuning: &Tuning) -> Self {
        Self { failed: 0, tuning: *tuning }
    }

    /// How long to wait before the next try, or that there is none.
    fn fail(&mut self, why: &str, wait: Option<Duration>) -> Result<Duration, Failure> {
        self.failed += 1;
        if self.failed >= self.tuning.attempts {
            let text = format!("gave up after {} tries without progress: {why}", self.failed);
            return Err(Failure::new(Code::Unreachable, text));
        }
        Ok(pause(&self.tuning, self.failed, wait, random()))
    }
}

/// Exponential with full jitter, never sooner than the server asked for. `random` is a part of 2^32.
fn pause(tuning: &Tuning, failed: u32, wait: Option<Duration>, random: u32) -> Duration {
    let doubled = tuning.first_wait.saturating_mul(1 << failed.saturating_sub(1).min(MAX_DOUBLINGS));
    let drawn = doubled.min(tuning.max_wait).mul_f64(f64::from(random) / f64::from(u32::MAX));
    match wait {
        // Devices that were all told the same time do not come back at the same time.
        Some(wait) => wait + drawn.min(tuning.first_wait),
        None => drawn,
    }
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => u32::from_le_bytes(bytes),
        // Without random numbers the longest wait is the safe one.
        Err(_) => u32::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_are_drawn_and_have_a_bound() {
        let tuning = Tuning::default();
        let secs = |failed, wait, random| pause(&tuning, failed, wait, random).as_secs_f64().round();
        assert_eq!(secs(1, None, u32::MAX), 1.0);
        assert_eq!(secs(4, None, u32::MAX), 8.0);
        assert_eq!(secs(4, None, u32::MAX / 2), 4.0);
        assert_eq!(secs(4, None, 0), 0.0);
        assert_eq!(secs(4_000_000, None, u32::MAX), 300.0);
        assert_eq!(secs(9, Some(Duration::from_secs(40)), u32::MAX), 41.0);
        assert_eq!(secs(9, Some(Duration::from_secs(900)), 0), 900.0);
    }

    #[test]
    fn ranges_are_read() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for text in ["", "bytes */10", "5-9/10", "bytes 5/10", "bytes a-9/10", "bytes 5-9/x"] {
            assert_eq!(content_range(text), None, "{text}");
        }
    }

    #[test]
    fn one_content_is_told_from_another() {
        let origin = |etag: &str, modified: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Origin { etag: some(etag), modified: some(modified) }
        };
        assert!(is_same(&origin("\"1\"", "a"), &origin("\"1\"", "b")));
        assert!(!is_same(&origin("\"1\"", "a"), &origin("\"2\"", "a")));
        assert!(!is_same(&origin("\"1\"", "a"), &origin("", "a")));
        assert!(is_same(&origin("", "a"), &origin("", "a")));
        assert!(!is_same(&origin("", "a"), &origin("", "b")));
    }
}
