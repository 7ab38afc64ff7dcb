//! How a job's step is spread over its devices: pace, waves, gates, retries. None of it exists in Azure,
//! so the default is Azure's behaviour.

use super::spec::{in_range, ATTEMPTS, PAUSE};
use super::JobError;
use crate::json::Key;
use crate::limits::JOB_WAVES;

/// The pace and order of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// Devices that may start in a second; unlimited when absent.
    pub rate: Option<u32>,
    /// Devices that may be at their step at the same time; the hub's own bound when absent.
    pub concurrency: Option<u32>,
    /// Tries of the step on a device, the first one included. A method that was tried again because no
    /// answer came may have run twice; with the default of 1 that cannot happen.
    pub attempts: u32,
    /// Seconds before the second try; doubled for each further one.
    pub retry_backoff_secs: u32,
    /// What a method job does about devices that are not connected.
    pub offline: Offline,
    /// In which order the devices come.
    pub waves: Waves,
    /// When not to go on.
    pub gate: Gate,
}

impl Default for Rollout {
    fn default() -> Rollout {
        Rollout {
            rate: None,
            concurrency: None,
            attempts: 1,
            retry_backoff_secs: 0,
            offline: Offline::Wait,
            waves: Waves::One,
            gate: Gate::default(),
        }
    }
}

/// What a method job does about a device that is not connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offline {
    /// Wait until the device's time is over (service §10.5).
    #[default]
    Wait,
    /// Fail it at once, as a single call without a connect timeout would.
    Fail,
}

/// How devices are put into groups that come one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Waves {
    /// All at once.
    #[default]
    One,
    /// So many devices in each wave, in the order of their ids; what is left comes last, in one more.
    Sizes(Vec<u64>),
    /// So many percent of all devices in each wave, rounded up; what is left comes last, in one more.
    Percent(Vec<u8>),
    /// A wave for each value of a tag, in the order of the values; devices without it come last.
    ByTag(Box<[Key]>),
}

/// When a job does not go on. What remains is `canceled` then, and the job `failed`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// Of a wave's devices so many percent must have succeeded before the next wave starts.
    pub min_success_percent: Option<u8>,
    /// Stop when so many devices of the job have failed.
    pub stop_after_failures: Option<u64>,
    /// Stop when so many percent of a wave's devices have failed.
    pub stop_after_failed_percent: Option<u8>,
    /// Stop when so many devices failed one after the other.
    pub stop_after_consecutive: Option<u64>,
    /// Seconds to wait between the end of a wave and the start of the next.
    pub soak_secs: u32,
}

impl Rollout {
    /// Checks ranges.
    ///
    /// # Errors
    /// [`JobError`] names the rule.
    pub fn check(&self) -> Result<(), JobError> {
        let most = u64::from(u32::MAX);
        if let Some(rate) = self.rate {
            in_range("rate", rate.into(), 1, most)?;
        }
        if let Some(concurrency) = self.concurrency {
            in_range("concurrency", concurrency.into(), 1, most)?;
        }
        in_range("attempts", self.attempts.into(), 1, ATTEMPTS)?;
        in_range("retryBackoffInSeconds", self.retry_backoff_secs.into(), 0, PAUSE)?;
        self.waves.check()?;
        self.gate.check()
    }

    /// Seconds to wait before the try that follows `attempts` tries.
    pub fn backoff_secs(&self, attempts: u32) -> i64 {
        let doubled = u64::from(self.retry_backoff_secs) << attempts.saturating_sub(1).min(31);
        i64::try_from(doubled.min(PAUSE)).unwrap_or(i64::MAX)
    }
}

impl Waves {
    fn check(&self) -> Result<(), JobError> {
        let count = match self {
            Waves::One => return Ok(()),
            Waves::ByTag(path) if path.iter().any(|key| key.is_empty()) || path.is_empty() => {
                return Err(JobError::NoTag)
            }
            Waves::ByTag(_) => return Ok(()),
            Waves::Sizes(sizes) => {
                sizes.iter().try_for_each(|size| in_range("a wave's size", *size, 1, u64::MAX))?;
                sizes.len()
            }
            Waves::Percent(shares) => {
                shares
                    .iter()
                    .try_for_each(|share| in_range("a wave's percentage", (*share).into(), 1, 100))?;
                let sum = shares.iter().map(|share| u64::from(*share)).sum();
                if sum > 100 {
                    return Err(JobError::Shares(sum));
                }
                shares.len()
            }
        };
        if count == 0 || count >= JOB_WAVES {
            return Err(JobError::Waves(count));
        }
        Ok(())
    }
}

impl Gate {
    fn check(&self) -> Result<(), JobError> {
        if let Some(percent) = self.min_success_percent {
            in_range("minSuccessPercent", percent.into(), 0, 100)?;
        }
        if let Some(percent) = self.stop_after_failed_percent {
            in_range("stopAfterFailedPercent", percent.into(), 1, 100)?;
        }
        if let Some(failures) = self.stop_after_failures {
            in_range("stopAfterFailures", failures, 1, u64::MAX)?;
        }
        if let Some(failures) = self.stop_after_consecutive {
            in_range("stopAfterConsecutiveFailures", failures, 1, u64::MAX)?;
        }
        in_range("soakTimeInSeconds", self.soak_secs.into(), 0, PAUSE)
    }
}
