//! Files that devices uploaded: Ostler's own routes. With Azure IoT Hub they lie in a storage account of the user's.

use bytes::Bytes;
use futures_util::stream::{self, TryStreamExt};
use http::header::{CONTENT_RANGE, ETAG};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use ostler_core::id::DeviceId;
use ostler_wire::rest::page::{CONTINUATION_HEADER, MAX_ITEM_COUNT_HEADER};
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::encode;
use crate::error::Error;
use crate::model::UploadedFile;
use crate::rows::Rows;
use crate::transport::Call;
use crate::Client;

/// How long a content that is being read may give nothing.
const SILENCE: Duration = Duration::from_secs(60);
/// How often in a row a content that breaks off without having given anything is asked for again.
const TRIES: u32 = 3;

/// Files that devices uploaded; see [`Client::files`].
#[derive(Debug, Clone, Copy)]
pub struct Files<'a>(&'a Client);

impl Client {
    /// Files that devices uploaded to this hub.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut files = hub.files().list(None);
    /// while let Some(file) = files.try_next().await? {
    ///     println!("{} {} {} bytes", file.device_id, file.name, file.size);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn files(&self) -> Files<'_> {
        Files(self)
    }
}

impl Files<'_> {
    /// The files of a device, or of all, in the order of device and name, page by page.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let files = hub.files().list(Some(&"pump-7".parse()?)).into_vec().await?;
    /// println!("{} files", files.len());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The stream ends with the first error. Azure IoT Hub and a strict hub have no such route and answer
    /// [`crate::ErrorKind::NotFound`].
    pub fn list(&self, device: Option<&DeviceId>) -> Rows<UploadedFile> {
        let start = Some((self.0.clone(), device.cloned(), None::<String>));
        let pages = stream::try_unfold(start, |state| async move {
            let Some((client, device, continuation)) = state else { return Ok::<_, Error>(None) };
            let mut call = Call::new(Method::GET, "/ostler/v1/files");
            if let Some(device) = &device {
                call.query = format!("&device={}", encode(device.as_str()));
            }
            call.headers.push((MAX_ITEM_COUNT_HEADER, "1000".into()));
            call.headers.extend(continuation.map(|token| (CONTINUATION_HEADER, token)));
            let reply = client.transport.send(&call).await?;
            let page: Vec<UploadedFile> = reply.json()?;
            let next = reply.headers.get(CONTINUATION_HEADER).and_then(|token| token.to_str().ok());
            let next = next.map(|token| (client, device, Some(token.to_owned())));
            Ok(Some((stream::iter(page.into_iter().map(Ok)), next)))
        });
        Rows::new(pages.try_flatten())
    }

    /// Writes a file's content to `to`; its bytes come back. A connection that breaks is taken up where it broke, as long as
    /// the file is the same.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut content = Vec::new();
    /// hub.files().get(&"pump-7".parse()?, "logs/today.txt", &mut content).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is no such file; [`Error::Interrupted`] also when the file was replaced
    /// meanwhile, or `to` cannot be written. What was written by then is a part of the file.
    pub async fn get(
        &self,
        device: &DeviceId,
        name: &str,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<u64, Error> {
        let mut call = Call::new(Method::GET, path(device, name));
        let (mut written, mut tries, mut etag) = (0, 0, None);
        loop {
            if let Some(etag) = &etag {
                call.headers =
                    vec![("range", format!("bytes={written}-")), ("if-range", String::clone(etag))];
            }
            let answer = self.0.transport.open(&call).await?;
            if written > 0 && (answer.status() != StatusCode::PARTIAL_CONTENT || !begins_at(&answer, written))
            {
                return Err(self.interrupted("the file was replaced while it was read"));
            }
            etag = answer.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
            let before = written;
            match self.copy(answer.into_body(), to, &mut written).await {
                Ok(()) => return Ok(written),
                Err(error @ Error::Setup(_)) => return Err(error),
                Err(error) if etag.is_none() || written == before && tries + 1 == TRIES => return Err(error),
                Err(_) => tries = if written > before { 0 } else { tries + 1 },
            }
            if written == 0 {
                etag = None;
            }
        }
    }

    async fn copy(
        &self,
        mut body: hyper::body::Incoming,
        to: &mut (impl AsyncWrite + Unpin),
        written: &mut u64,
    ) -> Result<(), Error> {
        loop {
            let frame = timeout(SILENCE, body.frame()).await;
            let authority = || self.0.authority().to_owned();
            let frame = frame.map_err(|_| Error::Timeout { authority: authority(), after: SILENCE })?;
            let Some(frame) = frame else { break };
            let frame =
                frame.map_err(|error| Error::Interrupted { authority: authority(), source: error.into() })?;
            let piece: Bytes = frame.into_data().unwrap_or_default();
            to.write_all(&piece).await.map_err(cannot_write)?;
            *written += piece.len() as u64;
        }
        to.flush().await.map_err(cannot_write)
    }

    fn interrupted(&self, why: &'static str) -> Error {
        Error::Interrupted { authority: self.0.authority().to_owned(), source: why.into() }
    }

    /// Deletes a file.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// hub.files().delete(&"pump-7".parse()?, "logs/today.txt").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is no such file.
    pub async fn delete(&self, device: &DeviceId, name: &str) -> Result<(), Error> {
        self.0.delete(path(device, name), None).await
    }
}

fn path(device: &DeviceId, name: &str) -> String {
    let name: Vec<String> = name.split('/').map(encode).collect();
    format!("/ostler/v1/files/{}/{}", encode(device.as_str()), name.join("/"))
}

fn begins_at<T>(answer: &http::Response<T>, place: u64) -> bool {
    let range = answer.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {place}-")))
}

fn cannot_write(error: std::io::Error) -> Error {
    Error::Setup(format!("the content cannot be written: {error}"))
}
