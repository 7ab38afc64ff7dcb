//! A scenario as it is written: what may stand where, and its defaults.
//!
//! Must not know: what follows from it. Whether the parts make sense together is checked in [`super`].

use serde::Deserialize;
use toml::Spanned;

use super::super::delay::{Delay, Span};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    #[serde(default)]
    pub description: String,
    pub seed: Option<u64>,
    pub devices: Option<u64>,
    pub prefix: Option<String>,
    #[serde(default)]
    pub connection: Connection,
    #[serde(default)]
    pub group: Vec<Spanned<Group>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Connection {
    /// New connections per second, of all devices together.
    pub rate: f64,
    /// What the devices promise the hub.
    pub keep_alive: Span,
    /// Whether the hub forgets the subscriptions with the connection.
    pub clean_session: bool,
    /// Whether TLS sessions are resumed.
    pub resume_tls: bool,
    /// The longest first wait after a lost connection; it doubles from attempt to attempt.
    pub backoff: Span,
    pub backoff_max: Span,
    /// The digital-twin model that the devices announce.
    pub model_id: Option<String>,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            rate: 1000.0,
            keep_alive: Span(240_000),
            clean_session: false,
            resume_tls: false,
            backoff: Span(1_000),
            backoff_max: Span(60_000),
            model_id: None,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Group {
    pub name: String,
    #[serde(default = "whole")]
    pub share: f64,
    #[serde(default)]
    pub tags: toml::Table,
    #[serde(default)]
    pub desired: toml::Table,
    #[serde(default)]
    pub reported: toml::Table,
    #[serde(default)]
    pub method: Vec<Spanned<Method>>,
    #[serde(default)]
    pub report: Vec<Spanned<Report>>,
    pub on_desired: Option<OnDesired>,
    pub reboot: Option<Reboot>,
    pub firmware: Option<Firmware>,
    pub flap: Option<Flap>,
    pub slow: Option<Slow>,
    pub lie: Option<Lie>,
    pub vanish: Option<Vanish>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Method {
    /// `*` for every method without an entry of its own.
    pub name: String,
    #[serde(default = "none")]
    pub delay: Delay,
    #[serde(default)]
    pub answer: Vec<Answer>,
    /// Reported after the answer.
    #[serde(default)]
    pub then_report: toml::Table,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Answer {
    #[serde(default = "whole")]
    pub weight: f64,
    #[serde(default = "ok")]
    pub status: i32,
    pub payload: Option<toml::Value>,
    /// No answer at all.
    #[serde(default)]
    pub silent: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Report {
    pub every: Span,
    /// How much the time between two reports varies: 0.2 is up to 20 % in both directions.
    #[serde(default)]
    pub jitter: f64,
    pub properties: toml::Table,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OnDesired {
    #[serde(default = "none")]
    pub delay: Delay,
    /// The properties to report back; all if empty.
    #[serde(default)]
    pub only: Vec<String>,
    /// The chance that a change is not noticed.
    #[serde(default)]
    pub ignore: f64,
    /// Where the values are reported; at the top if empty.
    #[serde(default)]
    pub under: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Reboot {
    pub method: String,
    pub status: i32,
    pub report: String,
    /// Between the answer and the goodbye.
    pub shutdown: Delay,
    /// Between the goodbye and the next connection.
    pub down: Delay,
}

impl Default for Reboot {
    fn default() -> Self {
        Self {
            method: "reboot".to_owned(),
            status: 200,
            report: "lastReboot".to_owned(),
            shutdown: Delay::Fixed(100),
            down: Delay::Fixed(5_000),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Firmware {
    pub method: String,
    pub status: i32,
    /// The reported property that tells how it goes.
    pub property: String,
    pub delay: Delay,
    pub download: Delay,
    /// Progress reports during the download.
    pub steps: u32,
    pub apply: Delay,
    pub down: Delay,
    pub fail_download: f64,
    pub fail_apply: f64,
}

impl Default for Firmware {
    fn default() -> Self {
        Self {
            method: "firmwareUpdate".to_owned(),
            status: 200,
            property: "firmware".to_owned(),
            delay: Delay::NONE,
            download: Delay::Uniform(4_000, 12_000),
            steps: 4,
            apply: Delay::Uniform(2_000, 6_000),
            down: Delay::Uniform(2_000, 5_000),
            fail_download: 0.0,
            fail_apply: 0.0,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Flap {
    /// How long a connection lasts.
    pub every: Delay,
    #[serde(default = "none")]
    pub down: Delay,
    /// The chance that the device leaves without DISCONNECT.
    #[serde(default = "half")]
    pub rude: f64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Slow {
    pub probability: f64,
    /// Added to the delay of the method.
    pub delay: Delay,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lie {
    /// The chance that a method is answered with a status other than the one that was decided and is reported.
    #[serde(default)]
    pub answers: f64,
    #[serde(default = "lies")]
    pub statuses: Vec<i32>,
    /// The chance that a report holds nonsense.
    #[serde(default)]
    pub reports: f64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Vanish {
    /// How long the device behaves before it falls silent, its connection left open.
    pub every: Delay,
    /// How long it stays silent.
    pub gone: Delay,
}

fn whole() -> f64 {
    1.0
}

fn half() -> f64 {
    0.5
}

fn ok() -> i32 {
    200
}

fn none() -> Delay {
    Delay::NONE
}

fn lies() -> Vec<i32> {
    vec![200, 500]
}
