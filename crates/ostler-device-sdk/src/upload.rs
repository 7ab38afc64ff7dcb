//! Files, sent to the store that the hub names (device §8.1): ask the hub for a place, send blocks there, say how it went.
//!
//! ```text
//!   POST /devices/{id}/files ──▶ place ──▶ PUT block … PUT block, PUT list ──▶ POST …/files/notifications
//! ```
//!
//! Must not know: how HTTPS is dialled, how the device signs in.
//!
//! Invariant: one block is in memory, however long the file is; each is tried again by itself.
//! Invariant: the store is never shown the device's credential; the place carries its own leave to write.
//! Invariant: an upload that was begun is ended: the hub is told of a failure too, so that its place is free again.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use base64::prelude::{Engine, BASE64_STANDARD};
use bytes::Bytes;
use ostler_core::sas::percent_encode;
use ostler_wire::rest::storage::write_block_list;
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::Instant;

use crate::http::{HttpError, Https, Request, Response};
use crate::{Client, RetryPolicy};

/// The version of the hub's interface that is asked for.
const API_VERSION: &str = "2021-04-12";
/// The version of the storage's interface that is asked for.
const STORAGE_VERSION: &str = "2018-03-28";
/// Bytes of a block, and of a file that is sent in one piece.
pub const BLOCK_BYTES: usize = 4 << 20;
/// Blocks that a store takes for one file.
const MAX_BLOCKS: usize = 50_000;
/// Bytes of an answer that are read.
const ANSWER_BYTES: usize = 64 << 10;
/// How long one block may take; 4 MiB in it are 7 KB/s.
const BLOCK_PATIENCE: Duration = Duration::from_secs(600);
/// How long a failed upload tries to tell the hub so.
const LAST_WORD: Duration = Duration::from_secs(10);

/// What is uploaded: bytes, or a reader.
///
/// ```
/// use ostler_device_sdk::upload::Content;
///
/// let bytes: Content = "a log".into();
/// let reader = Content::reader(tokio::io::empty());
/// ```
pub struct Content(Pin<Box<dyn AsyncRead + Send>>, Option<u64>);

impl Content {
    /// What a reader yields until its end, such as a file; it is read once, block by block.
    ///
    /// ```
    /// let content = ostler_device_sdk::upload::Content::reader(tokio::io::empty());
    /// ```
    pub fn reader(reader: impl AsyncRead + Send + 'static) -> Self {
        Self(Box::pin(reader), None)
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({:?} bytes)", self.1)
    }
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        let length = bytes.len() as u64;
        Self(Box::pin(std::io::Cursor::new(bytes)), Some(length))
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Bytes::copy_from_slice(text.as_bytes()).into()
    }
}

/// How far an upload is.
///
/// ```
/// # fn show(progress: ostler_device_sdk::upload::Progress) {
/// println!("{} of {:?} bytes", progress.sent, progress.total);
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes that the store has taken.
    pub sent: u64,
    /// Bytes in all, if that is known.
    pub total: Option<u64>,
}

/// A file that is stored.
///
/// ```no_run
/// # async fn example(client: ostler_device_sdk::Client) -> Result<(), ostler_device_sdk::upload::UploadError> {
/// let stored = client.upload("logs/today.txt", "it works").await?;
/// println!("{} bytes as {}", stored.bytes, stored.blob);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Uploaded {
    /// Its name in the store, which begins with the device's id.
    pub blob: String,
    /// Bytes.
    pub bytes: u64,
    /// What the hub calls this upload.
    pub correlation_id: String,
    /// Of what is stored, if the store says so.
    pub etag: Option<String>,
}

/// Why a file was not uploaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UploadError {
    /// Modules have no files.
    #[error("only devices upload files, and this client is a module's")]
    Module,
    /// The hub refuses to begin or to end the upload.
    #[error("the hub answered {status} to the {step} of the upload: {text}")]
    Hub {
        /// `start` or `end`.
        step: &'static str,
        /// The HTTP status.
        status: u16,
        /// The hub's words.
        text: String,
    },
    /// The store refuses the file.
    #[error("the store answered {status}: {text}")]
    Storage {
        /// The HTTP status.
        status: u16,
        /// The store's words.
        text: String,
    },
    /// There is no answer, after what the retry policy allows.
    #[error("the {step} of the upload was not answered: {source}")]
    Unreachable {
        /// `start`, `sending` or `end`.
        step: &'static str,
        /// What was met last.
        source: HttpError,
    },
    /// The hub's answer does not name a place.
    #[error("the hub's answer to the start of the upload cannot be read: {0}")]
    BadPlace(String),
    /// The content cannot be read.
    #[error("the content cannot be read: {0}")]
    Source(std::io::Error),
    /// More than a store takes.
    #[error("the content has more than {MAX_BLOCKS} blocks of {BLOCK_BYTES} bytes")]
    TooLong,
}

/// Where the hub says the file goes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    correlation_id: String,
    host_name: String,
    container_name: String,
    blob_name: String,
    sas_token: String,
}

impl Place {
    /// The address, with its leave to write.
    fn url(&self, scheme: &str) -> String {
        let blob: Vec<String> = self.blob_name.split('/').map(percent_encode).collect();
        let sas = self.sas_token.trim_start_matches('?');
        format!(
            "{scheme}://{}/{}/{}?{sas}",
            self.host_name,
            percent_encode(&self.container_name),
            blob.join("/")
        )
    }
}

impl Client {
    /// Uploads a file; await it. The hub decides where it goes: with Azure IoT Hub to its storage account, with Ostler to the
    /// hub itself, where `ostler file list` shows it. An existing file of that name is replaced once all of the new one
    /// is there.
    ///
    /// What may pass is tried again, block by block, for five minutes unless [`Upload::retry`] says otherwise. A device
    /// has at most ten uploads in progress.
    ///
    /// ```no_run
    /// # async fn example(client: ostler_device_sdk::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use ostler_device_sdk::upload::Content;
    ///
    /// client.upload("notes.txt", "short").await?;
    ///
    /// let log = std::io::Cursor::new(vec![0; 20 << 20]); // or a tokio::fs::File
    /// client
    ///     .upload("logs/today.bin", Content::reader(log))
    ///     .on_progress(|progress| println!("{} bytes", progress.sent))
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn upload(&self, blob_name: &str, content: impl Into<Content>) -> Upload {
        let username = ostler_wire::username::parse(&self.inner().username);
        let entity = username.map(|username| username.entity.to_owned()).unwrap_or_default();
        let retry = RetryPolicy { budget: Some(Duration::from_secs(300)), ..RetryPolicy::default() };
        let way = Way { https: self.https(), entity, name: blob_name.to_owned(), content_type: None, retry };
        Upload { way, content: content.into(), progress: None }
    }
}

/// An upload that is about to begin; await it.
///
/// ```no_run
/// # async fn example(client: ostler_device_sdk::Client) -> Result<(), ostler_device_sdk::upload::UploadError> {
/// let upload = client.upload("report.json", "{}").content_type("application/json");
/// upload.await?;
/// # Ok(()) }
/// ```
#[must_use = "nothing is sent before it is awaited"]
pub struct Upload {
    way: Way,
    content: Content,
    progress: Option<Box<dyn FnMut(Progress) + Send>>,
}

/// How requests of an upload are made.
struct Way {
    https: Https,
    entity: String,
    name: String,
    content_type: Option<String>,
    retry: RetryPolicy,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("name", &self.way.name)
            .field("content", &self.content)
            .finish_non_exhaustive()
    }
}

impl Upload {
    /// Names the media type.
    ///
    /// ```no_run
    /// # fn example(client: ostler_device_sdk::Client) {
    /// let upload = client.upload("a.json", "{}").content_type("application/json");
    /// # }
    /// ```
    pub fn content_type(mut self, media_type: &str) -> Self {
        self.way.content_type = Some(media_type.to_owned());
        self
    }

    /// Calls this after each block that the store has taken.
    ///
    /// ```no_run
    /// # fn example(client: ostler_device_sdk::Client) {
    /// let upload = client.upload("a", "b").on_progress(|progress| println!("{}", progress.sent));
    /// # }
    /// ```
    pub fn on_progress(mut self, call: impl FnMut(Progress) + Send + 'static) -> Self {
        self.progress = Some(Box::new(call));
        self
    }

    /// How hard each request is tried; the budget counts from its first failure.
    ///
    /// ```no_run
    /// # fn example(client: ostler_device_sdk::Client) {
    /// let upload = client.upload("a", "b").retry(ostler_device_sdk::RetryPolicy::none());
    /// # }
    /// ```
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.way.retry = policy;
        self
    }

    async fn run(mut self) -> Result<Uploaded, UploadError> {
        if self.way.entity.is_empty() || self.way.entity.contains('/') {
            return Err(UploadError::Module);
        }
        let place = self.way.begin().await?;
        let sent = self.send(&place).await;
        let ended = match &sent {
            Ok(_) => self.way.end(&place, true, "stored").await,
            Err(error) => {
                // The cause of the failure is worth more than that the hub could not be told of it.
                let text = error.to_string();
                let _ = tokio::time::timeout(LAST_WORD, self.way.end(&place, false, &text)).await;
                Ok(())
            }
        };
        let (bytes, etag) = sent?;
        ended?;
        Ok(Uploaded { blob: place.blob_name, bytes, correlation_id: place.correlation_id, etag })
    }

    /// Sends the content; its bytes and the store's etag come back.
    async fn send(&mut self, place: &Place) -> Result<(u64, Option<String>), UploadError> {
        let scheme = self.way.https.hub_url().split(':').next().unwrap_or("https").to_owned();
        let url = place.url(&scheme);
        let mut block = self.next_block().await?;
        if block.len() < BLOCK_BYTES {
            let etag = self.way.put(&url, &block, Put::Whole).await?;
            self.tell(block.len() as u64);
            return Ok((block.len() as u64, etag));
        }
        let (mut sent, mut ids) = (0, Vec::new());
        while !block.is_empty() {
            if ids.len() == MAX_BLOCKS {
                return Err(UploadError::TooLong);
            }
            // All ids of a file have the same length, as the storage service wants it.
            let id = BASE64_STANDARD.encode(format!("{:06}", ids.len()));
            let place = format!("{url}&comp=block&blockid={}", percent_encode(&id));
            self.way.put(&place, &block, Put::Block).await?;
            sent += block.len() as u64;
            ids.push(id);
            self.tell(sent);
            block = self.next_block().await?;
        }
        let list = Bytes::from(write_block_list(ids.iter().map(String::as_str)));
        let etag = self.way.put(&format!("{url}&comp=blocklist"), &list, Put::List).await?;
        Ok((sent, etag))
    }

    async fn next_block(&mut self) -> Result<Bytes, UploadError> {
        let mut block = Vec::new();
        let mut limited = (&mut self.content.0).take(BLOCK_BYTES as u64);
        limited.read_to_end(&mut block).await.map_err(UploadError::Source)?;
        Ok(block.into())
    }

    fn tell(&mut self, sent: u64) {
        let total = self.content.1;
        if let Some(progress) = &mut self.progress {
            progress(Progress { sent, total });
        }
    }
}

impl Way {
    fn hub(&self, rest: &str) -> Request {
        let device = percent_encode(&self.entity);
        let url = format!("{}/devices/{device}/files{rest}?api-version={API_VERSION}", self.https.hub_url());
        self.https.post(&url).sign_in().header("content-type", "application/json")
    }

    async fn begin(&self) -> Result<Place, UploadError> {
        let body = serde_json::json!({ "blobName": self.name }).to_string();
        let answer = self.exchange("start", || self.hub("").body(body.clone())).await?;
        let (status, text) = (answer.status(), read(answer).await);
        if status != 200 {
            return Err(UploadError::Hub { step: "start", status, text });
        }
        serde_json::from_str(&text).map_err(|error| UploadError::BadPlace(error.to_string()))
    }

    async fn end(&self, place: &Place, success: bool, text: &str) -> Result<(), UploadError> {
        let body = serde_json::json!({
            "correlationId": place.correlation_id,
            "isSuccess": success,
            "statusCode": if success { 200 } else { 500 },
            "statusDescription": text,
        });
        let body = body.to_string();
        let answer = self.exchange("end", || self.hub("/notifications").body(body.clone())).await?;
        match answer.status() {
            200..=299 => Ok(()),
            status => Err(UploadError::Hub { step: "end", status, text: read(answer).await }),
        }
    }

    async fn put(&self, url: &str, bytes: &Bytes, what: Put) -> Result<Option<String>, UploadError> {
        let make = || {
            let mut request =
                self.https.put(url).header("x-ms-version", STORAGE_VERSION).timeout(BLOCK_PATIENCE);
            if what == Put::Whole {
                request = request.header("x-ms-blob-type", "BlockBlob");
            }
            if let Some(media_type) = self.content_type.as_deref().filter(|_| what != Put::Block) {
                request = request.header("x-ms-blob-content-type", media_type);
            }
            request.body(bytes.clone())
        };
        let answer = self.exchange("sending", make).await?;
        match answer.status() {
            201 => Ok(answer.header("etag").map(str::to_owned)),
            status => Err(UploadError::Storage { status, text: read(answer).await }),
        }
    }

    /// Sends a request until it has an answer that is not about a passing fault, as the policy allows. Each of them may be
    /// repeated: the same block, list or notification twice is as once. A start that is repeated leaves an upload that
    /// the hub forgets after its time.
    async fn exchange(
        &self,
        step: &'static str,
        make: impl Fn() -> Request,
    ) -> Result<Response, UploadError> {
        let (mut failures, mut first_failure) = (0, None);
        loop {
            let outcome = make().send().await;
            let hint = match &outcome {
                Ok(answer) if matches!(answer.status(), 408 | 429 | 500 | 502 | 503 | 504) => {
                    answer.retry_after()
                }
                Err(HttpError::Connect { transient: true, retry_after, .. }) => *retry_after,
                Err(error) if error.is_transient() => None,
                _ => return outcome.map_err(|source| UploadError::Unreachable { step, source }),
            };
            failures += 1;
            let since = *first_failure.get_or_insert_with(Instant::now);
            let hint = hint.map(|hint| u64::try_from(hint.as_millis()).unwrap_or(u64::MAX));
            let wait = Duration::from_millis(self.retry.wait_ms(failures, hint, chance()));
            let spent = u64::try_from((since.elapsed() + wait).as_millis()).unwrap_or(u64::MAX);
            if self.retry.budget_left_ms(spent).is_none() {
                return outcome.map_err(|source| UploadError::Unreachable { step, source });
            }
            tracing::debug!(step, failures, wait_ms = wait.as_millis(), "an upload's request is tried again");
            tokio::time::sleep(wait).await;
        }
    }
}

impl IntoFuture for Upload {
    type Output = Result<Uploaded, UploadError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Put {
    Whole,
    Block,
    List,
}

/// What an answer says, as far as it can be read.
async fn read(answer: Response) -> String {
    let bytes = answer.bytes(ANSWER_BYTES).await.unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn chance() -> u64 {
    let mut bytes = [0xff; 8];
    // Without randomness the longest wait is the safe choice.
    let _ = SystemRandom::new().fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_folders_and_encodes_the_rest() {
        let text = r#"{"correlationId":"c","hostName":"h:8443","containerName":"uploads",
            "blobName":"d/a b/#1?.txt","sasToken":"?sv=1&sig=%2F"}"#;
        let place: Place = serde_json::from_str(text).unwrap();
        assert_eq!(place.url("https"), "https://h:8443/uploads/d/a%20b/%231%3F.txt?sv=1&sig=%2F");
    }

    #[tokio::test]
    async fn content_comes_in_whole_blocks() {
        let connection = "HostName=localhost:1;DeviceId=d;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==";
        let client = Client::builder(connection.parse().unwrap()).plain().build().unwrap();
        let mut upload = client.upload("f", vec![7; BLOCK_BYTES + 3]);
        let sizes = [upload.next_block().await.unwrap(), upload.next_block().await.unwrap()];
        assert_eq!(sizes.map(|block| block.len()), [BLOCK_BYTES, 3]);
        assert!(upload.next_block().await.unwrap().is_empty());
    }
}
