//! Counting what became of a job's devices.
//!
//! Invariant: the counts of a [`Tally`] are those of the device jobs that were noted, each once at its
//! latest status, so a count made anew from what is stored gives the same, save for the run of failures.

use super::{DeviceJobStatus, Failure, FailureCode, JobCounts};
use std::collections::BTreeMap;

/// The running count of a job: of all its devices, and of those in its wave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All devices.
    pub job: JobCounts,
    /// Those of the present wave.
    pub wave: JobCounts,
    /// Failed devices by cause.
    pub causes: BTreeMap<FailureCode, u64>,
    /// Devices that failed since one last succeeded.
    pub consecutive: u64,
}

impl Tally {
    /// A count before anything happened: `devices` in all, `wave` of them in the first wave.
    pub fn new(devices: u64, wave: u64) -> Tally {
        let pending = |devices| JobCounts { devices, pending: devices, ..JobCounts::default() };
        Tally { job: pending(devices), wave: pending(wave), ..Tally::default() }
    }

    /// Adds a device that stands at `status`; for counting anew. `in_wave` when it is of the present wave.
    pub fn add(&mut self, status: DeviceJobStatus, failure: Option<&Failure>, in_wave: bool) {
        self.job.devices += 1;
        *place(&mut self.job, status) += 1;
        if in_wave {
            self.wave.devices += 1;
            *place(&mut self.wave, status) += 1;
        }
        if let (DeviceJobStatus::Failed, Some(failure)) = (status, failure) {
            *self.causes.entry(failure.code).or_default() += 1;
        }
    }

    /// Notes that a device of the present wave went from one status to another.
    pub fn note(&mut self, from: DeviceJobStatus, to: DeviceJobStatus, failure: Option<&Failure>) {
        for counts in [&mut self.job, &mut self.wave] {
            let left = place(counts, from);
            *left = left.saturating_sub(1);
            *place(counts, to) += 1;
        }
        match to {
            DeviceJobStatus::Completed => self.consecutive = 0,
            DeviceJobStatus::Failed => {
                self.consecutive += 1;
                if let Some(failure) = failure {
                    *self.causes.entry(failure.code).or_default() += 1;
                }
            }
            _ => {}
        }
    }

    /// Notes that devices which had not begun are canceled, whatever their wave.
    pub fn note_canceled(&mut self, devices: u64) {
        self.job.pending = self.job.pending.saturating_sub(devices);
        self.job.cancelled += devices;
    }

    /// Starts the count of a new wave.
    pub fn begin_wave(&mut self, devices: u64) {
        self.wave = JobCounts { devices, pending: devices, ..JobCounts::default() };
    }

    /// Whether every device of the present wave has ended.
    pub fn is_wave_done(&self) -> bool {
        self.wave.pending == 0 && self.wave.running == 0
    }

    /// The causes by their names.
    pub fn causes_by_name(&self) -> BTreeMap<String, u64> {
        self.causes.iter().map(|(code, count)| (code.name().to_owned(), *count)).collect()
    }
}

fn place(counts: &mut JobCounts, status: DeviceJobStatus) -> &mut u64 {
    match status {
        DeviceJobStatus::Pending | DeviceJobStatus::Scheduled => &mut counts.pending,
        DeviceJobStatus::Running => &mut counts.running,
        DeviceJobStatus::Completed => &mut counts.succeeded,
        DeviceJobStatus::Failed => &mut counts.failed,
        DeviceJobStatus::Canceled => &mut counts.cancelled,
    }
}
