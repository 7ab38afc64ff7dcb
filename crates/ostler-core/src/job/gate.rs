//! When a job does not go on.

use super::{Gate, Tally};
use std::fmt;

/// Which gate closed, and on what count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// So many devices failed.
    Failures(u64),
    /// So many of the wave's devices failed.
    FailedPercent {
        /// Failed.
        failed: u64,
        /// Of so many.
        devices: u64,
        /// The percentage that stops the job.
        limit: u8,
    },
    /// So many devices failed one after the other.
    Consecutive(u64),
    /// Too few of the wave's devices succeeded.
    Success {
        /// Succeeded.
        succeeded: u64,
        /// Of so many.
        devices: u64,
        /// The percentage that is needed.
        needed: u8,
    },
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Failures(count) => write!(f, "{count} devices failed"),
            Stop::FailedPercent { failed, devices, limit } => {
                write!(f, "{failed} of the wave's {devices} devices failed, {limit} % stop the job")
            }
            Stop::Consecutive(count) => write!(f, "{count} devices failed one after the other"),
            Stop::Success { succeeded, devices, needed } => {
                write!(f, "{succeeded} of the wave's {devices} devices succeeded, {needed} % are needed")
            }
        }
    }
}

impl Gate {
    /// Whether the job must stop now, judged after each recorded outcome.
    pub fn during(&self, tally: &Tally) -> Option<Stop> {
        let (failed, devices) = (tally.wave.failed, tally.wave.devices);
        if self.stop_after_failures.is_some_and(|limit| tally.job.failed >= limit) {
            return Some(Stop::Failures(tally.job.failed));
        }
        if self.stop_after_consecutive.is_some_and(|limit| tally.consecutive >= limit) {
            return Some(Stop::Consecutive(tally.consecutive));
        }
        let limit = self.stop_after_failed_percent?;
        (failed > 0 && is_share(failed, devices, limit)).then_some(Stop::FailedPercent {
            failed,
            devices,
            limit,
        })
    }

    /// Whether the next wave must not start, judged when a wave has ended.
    pub fn after_wave(&self, tally: &Tally) -> Option<Stop> {
        let needed = self.min_success_percent?;
        let (succeeded, devices) = (tally.wave.succeeded, tally.wave.devices);
        (!is_share(succeeded, devices, needed)).then_some(Stop::Success { succeeded, devices, needed })
    }
}

/// Whether `part` is at least `percent` of `whole`.
fn is_share(part: u64, whole: u64, percent: u8) -> bool {
    u128::from(part) * 100 >= u128::from(whole) * u128::from(percent)
}
