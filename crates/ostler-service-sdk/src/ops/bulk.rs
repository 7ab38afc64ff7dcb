//! Bulk writes: chunks of 100 entries, several in flight, each entry's error kept (service §6.1).
//!
//! Invariant: no device is in two requests at once, nor twice in one: the service refuses the second (service §6.1)
//! and their order would be lost.

use std::collections::HashSet;

use futures_util::stream::{FuturesUnordered, StreamExt};
use http::{Method, StatusCode};

use super::json_body;
use crate::error::Error;
use crate::model::{BulkEntry, BulkError, BulkResult, BulkWarning};
use crate::retry::Safety;
use crate::transport::Call;
use crate::Client;

/// Entries in one request, the service's limit.
pub const MAX_BULK_ENTRIES: usize = 100;

/// How a long bulk write is paced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BulkOptions {
    /// Requests in flight at once.
    pub concurrency: usize,
}

impl Default for BulkOptions {
    fn default() -> Self {
        Self { concurrency: 8 }
    }
}

/// One finished request of a bulk write.
#[derive(Debug)]
#[non_exhaustive]
pub struct ChunkReport {
    /// Entries it carried.
    pub entries: usize,
    /// Entries that failed.
    pub errors: Vec<BulkError>,
    /// Entries that succeeded in part.
    pub warnings: Vec<BulkWarning>,
}

/// What a whole bulk write came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BulkSummary {
    /// Entries sent and answered.
    pub entries: u64,
    /// Of these, entries that failed.
    pub failed: u64,
}

impl Client {
    /// One bulk request of up to [`MAX_BULK_ENTRIES`] entries. Entries that fail are in the result, not an error.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::{BulkEntry, ImportMode};
    ///
    /// let entries = ["pump-1", "pump-2"].map(|id| BulkEntry::new(ImportMode::Create, id));
    /// for error in hub.bulk(&entries).await?.errors {
    ///     println!("{}: {}", error.device_id, error.error_code);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the request as a whole was refused: too many entries, the same device twice, no right to write.
    pub async fn bulk(&self, entries: &[BulkEntry]) -> Result<BulkResult, Error> {
        let mut call = Call::new(Method::POST, "/devices");
        call.body = json_body(entries)?;
        if entries.iter().all(BulkEntry::is_repeatable) {
            call.safety = Safety::Repeatable;
        }
        let reply = self.transport.exchange(&call).await?;
        // A partial failure is a 400 with the shape of a success (service §6.1).
        let partial = reply.status == StatusCode::BAD_REQUEST && is_bulk_result(&reply.body);
        if reply.status.is_success() || partial {
            reply.json()
        } else {
            Err(reply.into_fault())
        }
    }

    /// Writes any number of entries, read lazily, and reports after each request.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::{BulkEntry, BulkOptions, ImportMode};
    ///
    /// let entries = (0..10_000).map(|n| BulkEntry::new(ImportMode::CreateOrUpdate, format!("pump-{n}")));
    /// let summary = hub
    ///     .bulk_all(entries, BulkOptions::default(), |chunk| println!("{} more", chunk.entries))
    ///     .await?;
    /// println!("{} of {} failed", summary.failed, summary.entries);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The first request that failed as a whole ends it; requests in flight are then abandoned, and their entries may
    /// or may not have been written.
    pub async fn bulk_all(
        &self,
        entries: impl IntoIterator<Item = BulkEntry>,
        options: BulkOptions,
        mut report: impl FnMut(&ChunkReport),
    ) -> Result<BulkSummary, Error> {
        let mut chunks = Chunks { entries: entries.into_iter().peekable() };
        let mut in_flight = FuturesUnordered::new();
        let mut busy: HashSet<String> = HashSet::new();
        let mut summary = BulkSummary::default();
        let mut next = chunks.next();
        loop {
            let may_start = in_flight.len() < options.concurrency.max(1);
            match next.take_if(|chunk| may_start && chunk.iter().all(|entry| !busy.contains(&entry.id))) {
                Some(chunk) => {
                    busy.extend(chunk.iter().map(|entry| entry.id.clone()));
                    in_flight.push(async move {
                        let result = self.bulk(&chunk).await;
                        (chunk, result)
                    });
                    next = chunks.next();
                }
                None => {
                    let Some((chunk, result)) = in_flight.next().await else { return Ok(summary) };
                    let result = result?;
                    for entry in &chunk {
                        busy.remove(&entry.id);
                    }
                    summary.entries += chunk.len() as u64;
                    summary.failed += result.errors.len() as u64;
                    report(&ChunkReport {
                        entries: chunk.len(),
                        errors: result.errors,
                        warnings: result.warnings,
                    });
                }
            }
        }
    }
}

fn is_bulk_result(body: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(body).is_ok_and(|body| body["isSuccessful"].is_boolean())
}

/// Cuts entries into requests, each device at most once per request.
struct Chunks<I: Iterator<Item = BulkEntry>> {
    entries: std::iter::Peekable<I>,
}

impl<I: Iterator<Item = BulkEntry>> Chunks<I> {
    fn next(&mut self) -> Option<Vec<BulkEntry>> {
        let mut chunk: Vec<BulkEntry> = Vec::new();
        let mut ids = HashSet::new();
        while chunk.len() < MAX_BULK_ENTRIES {
            let Some(entry) = self.entries.next_if(|entry| !ids.contains(&entry.id)) else { break };
            ids.insert(entry.id.clone());
            chunk.push(entry);
        }
        (!chunk.is_empty()).then_some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ImportMode;

    fn sizes(ids: impl IntoIterator<Item = String>) -> Vec<usize> {
        let entries = ids.into_iter().map(|id| BulkEntry::new(ImportMode::Create, id));
        let mut chunks = Chunks { entries: entries.peekable() };
        std::iter::from_fn(|| chunks.next().map(|chunk| chunk.len())).collect()
    }

    #[test]
    fn chunks_hold_a_hundred_and_no_device_twice() {
        assert_eq!(sizes([]), [0; 0]);
        assert_eq!(sizes((0..250).map(|n| n.to_string())), [100, 100, 50]);
        assert_eq!(sizes(["a", "b", "a", "c", "a"].map(str::to_owned)), [2, 2, 1]);
    }

    #[test]
    fn a_partial_failure_is_told_from_a_refusal() {
        assert!(is_bulk_result(br#"{"isSuccessful":false,"errors":[],"warnings":[]}"#));
        assert!(!is_bulk_result(br#"{"Message":"ErrorCode:DeviceDefinedMultipleTimes;x"}"#));
        assert!(!is_bulk_result(b"<html>"));
    }
}
