//! Counters that the hub keeps about itself. Front ends print them.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What happened since the start.
#[derive(Debug, Default)]
pub struct Stats {
    /// Devices and modules that signed in.
    pub sign_ins: Counter,
    /// Sign-ins that were refused, of devices and back ends.
    pub sign_in_failures: Counter,
    /// Connections closed because the same identity connected again.
    pub takeovers: Counter,
    /// Method calls asked for.
    pub method_calls: Counter,
    /// Method calls that a device answered.
    pub method_answers: Counter,
    /// Method calls that no device took.
    pub method_offline: Counter,
    /// Method calls whose answer did not come in time.
    pub method_timeouts: Counter,
    /// Answers to calls that nobody waits for any more.
    pub method_late_answers: Counter,
    /// Reported-property changes committed.
    pub reported_changes: Counter,
    /// Changes of tags and desired properties committed.
    pub service_changes: Counter,
    /// Desired-property changes handed to a connection.
    pub notifications: Counter,
    /// Twins read by devices.
    pub device_twin_reads: Counter,
    /// Telemetry messages taken.
    pub telemetry_messages: Counter,
    /// Bytes in them.
    pub telemetry_bytes: Counter,
    /// File uploads begun.
    pub uploads_started: Counter,
    /// File uploads that their devices said to have succeeded.
    pub uploads_succeeded: Counter,
    /// File uploads that their devices gave up.
    pub uploads_failed: Counter,
    /// File uploads whose time was over.
    pub uploads_expired: Counter,
    /// Files stored.
    pub files_stored: Counter,
    /// Bytes in them.
    pub file_bytes: Counter,
    /// Cloud-to-device messages accepted.
    pub messages_accepted: Counter,
    /// Messages handed to a connection, again or for the first time.
    pub messages_delivered: Counter,
    /// Messages that a connection was handed and had not confirmed when it ended.
    pub messages_returned: Counter,
    /// Messages that their device confirmed.
    pub messages_completed: Counter,
    /// Messages whose time was over.
    pub messages_expired: Counter,
    /// Messages handed out as often as they may be, or damaged.
    pub messages_undeliverable: Counter,
    /// Messages that their device refused.
    pub messages_rejected: Counter,
    /// Messages removed with their queue or device.
    pub messages_purged: Counter,
    /// Outcomes that nobody read in time.
    pub feedback_expired: Counter,
    /// Outcomes not told because too many waited.
    pub feedback_dropped: Counter,
    /// Jobs created.
    pub jobs_created: Counter,
    /// Jobs that ended.
    pub jobs_ended: Counter,
    /// Devices on which a job was done.
    pub job_steps_succeeded: Counter,
    /// Devices on which a job failed.
    pub job_steps_failed: Counter,
    /// Devices on which a job was canceled.
    pub job_steps_canceled: Counter,
    /// Pages of queries asked for.
    pub queries: Counter,
    /// Twins that the engine of configurations looked at.
    pub configuration_looks: Counter,
    /// Twins that it changed.
    pub configuration_changes: Counter,
    /// Commits that had to be decided again because the record had changed.
    pub commit_retries: Counter,
}
