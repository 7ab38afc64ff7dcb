//! How a job goes through its devices, as flags.
//!
//! Must not know: which values the hub takes; it says so itself.

use clap::ValueEnum;
use ostler_service_sdk::{Gate, Offline, Rollout, Waves};

use crate::when;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Rollout")]
pub struct RolloutOptions {
    /// Begin at most this many devices per second
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// Work on at most this many devices at the same time
    #[arg(long, value_name = "N")]
    concurrency: Option<u32>,
    /// Try a device this many times more when it fails
    #[arg(long, value_name = "N")]
    retries: Option<u32>,
    /// How long to wait before a device is tried again (`30`, `30s`, `5m`)
    #[arg(long, value_name = "TIME", value_parser = when::seconds32, requires = "retries")]
    retry_backoff: Option<u32>,
    /// What becomes of a method call to a device that is offline: call it when it connects, or fail at once
    #[arg(long, value_enum, value_name = "WHAT")]
    offline: Option<OfflineChoice>,
    /// Sizes of the waves in devices; the last wave takes the rest
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', conflicts_with_all = ["wave_percent", "wave_by_tag"])]
    wave_sizes: Vec<u64>,
    /// Sizes of the waves in percent of all devices, 100 together at most; the last wave takes the rest
    #[arg(long, value_name = "P,P,…", value_delimiter = ',', conflicts_with = "wave_by_tag",
          value_parser = clap::value_parser!(u8).range(1..=100))]
    wave_percent: Vec<u8>,
    /// One wave for each value of this tag, devices without it last
    #[arg(long, value_name = "tags.PATH")]
    wave_by_tag: Option<String>,
    /// Begin the next wave only if this share of the wave before succeeded
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u8).range(0..=100))]
    gate_min_success: Option<u8>,
    /// Stop after this many failures
    #[arg(long, value_name = "N")]
    gate_failures: Option<u64>,
    /// Stop when this share of a wave's devices failed
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u8).range(0..=100))]
    gate_failed_percent: Option<u8>,
    /// Stop after this many failures in a row
    #[arg(long, value_name = "N")]
    gate_consecutive: Option<u64>,
    /// How long to wait after each wave (`30s`, `10m`, `2h`)
    #[arg(long, value_name = "TIME", value_parser = when::seconds32)]
    soak: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OfflineChoice {
    Wait,
    Fail,
}

impl RolloutOptions {
    /// Nothing if no flag was given: such a job is one that Azure knows too.
    pub fn rollout(self) -> Option<Rollout> {
        let mut rollout = Rollout::default();
        rollout.rate = self.rate;
        rollout.concurrency = self.concurrency;
        rollout.attempts = self.retries.map(|retries| retries.saturating_add(1));
        rollout.retry_backoff_secs = self.retry_backoff;
        rollout.offline = self.offline.map(|choice| match choice {
            OfflineChoice::Wait => Offline::Wait,
            OfflineChoice::Fail => Offline::Fail,
        });
        rollout.waves = if !self.wave_sizes.is_empty() {
            Some(Waves::Sizes(self.wave_sizes))
        } else if !self.wave_percent.is_empty() {
            Some(Waves::Percent(self.wave_percent))
        } else {
            self.wave_by_tag.map(Waves::ByTag)
        };
        let mut gate = Gate::default();
        gate.min_success_percent = self.gate_min_success;
        gate.stop_after_failures = self.gate_failures;
        gate.stop_after_failed_percent = self.gate_failed_percent;
        gate.stop_after_consecutive = self.gate_consecutive;
        gate.soak_secs = self.soak;
        rollout.gate = (gate != Gate::default()).then_some(gate);
        (rollout != Rollout::default()).then_some(rollout)
    }
}
