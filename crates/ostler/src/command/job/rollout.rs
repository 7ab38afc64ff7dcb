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

/// A rollout in the words of the flags, without what is Azure's way. The hub tells defaults too.
pub fn flags(rollout: &Rollout) -> String {
    let gate = rollout.gate.clone().unwrap_or_default();
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    let waves = |name| match (&rollout.waves, name) {
        (Some(Waves::Sizes(sizes)), "--wave-sizes") => Some(list(sizes)),
        (Some(Waves::Percent(shares)), "--wave-percent") => Some(list(shares)),
        (Some(Waves::ByTag(path)), "--wave-by-tag") => Some(path.clone()),
        _ => None,
    };
    let time = |secs: Option<u32>| secs.filter(|secs| *secs > 0).map(|secs| format!("{secs}s"));
    let retries = rollout.attempts.map(|attempts| attempts.saturating_sub(1)).filter(|retries| *retries > 0);
    let offline = rollout.offline.as_ref().filter(|offline| **offline != Offline::Wait);
    let flags = [
        ("--rate", number(rollout.rate.map(u64::from))),
        ("--concurrency", number(rollout.concurrency.map(u64::from))),
        ("--retries", number(retries.map(u64::from))),
        ("--retry-backoff", time(rollout.retry_backoff_secs)),
        ("--offline", offline.map(ToString::to_string)),
        ("--wave-sizes", waves("--wave-sizes")),
        ("--wave-percent", waves("--wave-percent")),
        ("--wave-by-tag", waves("--wave-by-tag")),
        ("--gate-min-success", number(gate.min_success_percent.map(u64::from))),
        ("--gate-failures", number(gate.stop_after_failures)),
        ("--gate-failed-percent", number(gate.stop_after_failed_percent.map(u64::from))),
        ("--gate-consecutive", number(gate.stop_after_consecutive)),
        ("--soak", time(gate.soak_secs)),
    ];
    let known = flags.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?)));
    let unknown = rollout.extra.iter().map(|(name, value)| format!("{name} {value}"));
    known.chain(unknown).collect::<Vec<_>>().join(" ")
}

fn list<T: ToString>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

impl RolloutOptions {
    /// Nothing if no flag was given: such a job is one that Azure knows too.
    pub fn rollout(self) -> Option<Rollout> {
        let gate = Gate {
            min_success_percent: self.gate_min_success,
            stop_after_failures: self.gate_failures,
            stop_after_failed_percent: self.gate_failed_percent,
            stop_after_consecutive: self.gate_consecutive,
            soak_secs: self.soak,
        };
        let rollout = Rollout {
            rate: self.rate,
            concurrency: self.concurrency,
            attempts: self.retries.map(|retries| retries.saturating_add(1)),
            retry_backoff_secs: self.retry_backoff,
            offline: self.offline.map(|choice| match choice {
                OfflineChoice::Wait => Offline::Wait,
                OfflineChoice::Fail => Offline::Fail,
            }),
            waves: if !self.wave_sizes.is_empty() {
                Some(Waves::Sizes(self.wave_sizes))
            } else if !self.wave_percent.is_empty() {
                Some(Waves::Percent(self.wave_percent))
            } else {
                self.wave_by_tag.map(Waves::ByTag)
            },
            gate: (gate != Gate::default()).then_some(gate),
            ..Rollout::default()
        };
        (rollout != Rollout::default()).then_some(rollout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        options: RolloutOptions,
    }

    #[test]
    fn flags_are_told_as_they_were_given() {
        for text in [
            "--rate 5 --concurrency 3 --retries 2 --retry-backoff 30s --offline fail --wave-sizes 1,10",
            "--wave-percent 1,10,50 --gate-min-success 95 --gate-failures 3 --gate-failed-percent 7 \
             --gate-consecutive 2 --soak 600s",
            "--wave-by-tag tags.site",
        ] {
            let words = std::iter::once("x").chain(text.split_whitespace());
            let rollout = Command::parse_from(words).options.rollout().unwrap();
            assert_eq!(flags(&rollout), text);
        }
    }

    #[test]
    fn azures_way_takes_no_words() {
        let text =
            r#"{"attempts":1,"retryBackoffInSeconds":0,"offline":"wait","gate":{"soakTimeInSeconds":0}}"#;
        assert_eq!(flags(&serde_json::from_str(text).unwrap()), "");
    }
}
