//! What is known of the two slots and of the update under way: the document that survives a power cut.
//!
//! Must not know: how it is stored, what comes next.
//!
//! Invariant: a slot that has an [`Image`] here holds that image whole; the entry is gone before the first byte is changed.
//! Invariant: `good` names a slot that has confirmed itself, and an update never writes to it.

use ostler_core::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::digest::{Digest, Hasher};
use super::failure::{Code, Failure};
use super::manifest::Package;
use super::version::Version;

/// One of the two places that an image can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The folder `a`.
    A,
    /// The folder `b`.
    B,
}

impl Slot {
    /// The slot that is not this one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// The folder's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// The slot of a folder's name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::A, Self::B].into_iter().find(|slot| slot.name() == name)
    }
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its version.
    pub version: Version,
    /// Its digest and length; unknown for what was installed in the factory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Its length in bytes; 0 for what was installed in the factory.
    #[serde(default)]
    pub size: u64,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    /// A package.
    Package(Package),
    /// A URI where the package is to be had.
    Uri(String),
}

impl Request {
    /// Tells requests apart, for remembering which one failed.
    pub fn fingerprint(&self) -> Digest {
        let mut hasher = Hasher::new();
        let parts = match self {
            Self::Package(package) => ["package", &package.url, &package.manifest, &package.signature],
            Self::Uri(uri) => ["uri", uri, "", ""],
        };
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.finish()
    }
}

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// A call: every call is a new wish.
    Call,
    /// A desired property: it stands there after the update too, so what failed once is not tried again until it changes.
    Desired,
}

/// The update under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    /// What was asked for.
    pub asked: Digest,
    /// Who asked.
    pub source: Source,
    /// Where the package came from, if it was fetched: its URL may be relative to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// When it began.
    #[serde(with = "time")]
    pub began: Timestamp,
    /// When the phase began.
    #[serde(with = "time")]
    pub since: Timestamp,
    /// How often what the server sends has changed during the download.
    #[serde(default)]
    pub changes: u32,
    /// Where it stands.
    pub phase: Phase,
}

/// Where an update stands. Each names what is to be done next, so that it can be done again after a power cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// The package is to be fetched.
    Fetching {
        /// From here.
        uri: String,
    },
    /// The image is to be downloaded.
    Downloading(Target),
    /// The image is to be read back and held against its digest.
    Verifying(Target),
    /// The slot is to be made ready by the application.
    Applying(Target),
    /// The slot is to be switched to, and the device to be booted.
    Switching(Target),
    /// The new image runs and is to show that it is healthy.
    Confirming {
        /// What is on trial.
        target: Target,
        /// How often it was booted.
        boots: u32,
    },
    /// The old slot is to be switched back to, and the device to be booted.
    RollingBack {
        /// What is given up.
        target: Target,
        /// Why.
        reason: Failure,
    },
}

/// What is installed where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The slot it is written to.
    pub slot: Slot,
    /// Where the image is.
    pub url: String,
    /// Its version.
    pub version: Version,
    /// Its length in bytes.
    pub size: u64,
    /// Its digest.
    pub sha256: Digest,
    /// From when on it must not be installed any more.
    #[serde(default, with = "maybe_time", skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

impl Phase {
    /// What is being installed, once that is known.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Self::Fetching { .. } => None,
            Self::Downloading(target)
            | Self::Verifying(target)
            | Self::Applying(target)
            | Self::Switching(target)
            | Self::Confirming { target, .. }
            | Self::RollingBack { target, .. } => Some(target),
        }
    }
}

/// How the last update ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// What was asked for; none when that could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Digest>,
    /// The version it was about, if that was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// How it ended.
    pub ending: Ending,
    /// When it ended.
    #[serde(with = "time")]
    pub at: Timestamp,
    /// Whether the hub has been told.
    #[serde(default)]
    pub told: bool,
}

/// How an update ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ending {
    /// The new image runs and has confirmed itself.
    Completed,
    /// The old image was never left.
    Failed {
        /// Why.
        failure: Failure,
        /// Whether the image had been downloaded whole by then.
        downloaded: bool,
    },
    /// The new image was started and the old one put back.
    RolledBack(Failure),
}

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The slot that confirmed itself last.
    pub good: Slot,
    /// What slot a holds, if it is whole.
    pub a: Option<Image>,
    /// What slot b holds, if it is whole.
    pub b: Option<Image>,
    /// The update under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Update>,
    /// How the last one ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Outcome>,
}

impl State {
    /// A device as it left the factory: one slot holds what runs, the other nothing.
    pub fn factory(running: Slot, image: Image) -> Self {
        let mut state = Self { good: running, a: None, b: None, update: None, last: None };
        state.set(running, Some(image));
        state
    }

    /// What a slot holds, if it is whole.
    pub fn image(&self, slot: Slot) -> Option<&Image> {
        match slot {
            Slot::A => self.a.as_ref(),
            Slot::B => self.b.as_ref(),
        }
    }

    pub(super) fn set(&mut self, slot: Slot, image: Option<Image>) {
        match slot {
            Slot::A => self.a = image,
            Slot::B => self.b = image,
        }
    }

    /// The step that a back end sees.
    pub fn step(&self) -> Step {
        match (&self.update, &self.last) {
            (Some(update), _) => match update.phase {
                Phase::Fetching { .. } | Phase::Downloading(_) => Step::Downloading,
                Phase::Verifying(_) => Step::Verifying,
                Phase::Applying(_) | Phase::Switching(_) => Step::Applying,
                Phase::Confirming { .. } => Step::Confirming,
                Phase::RollingBack { .. } => Step::RollingBack,
            },
            (None, Some(Outcome { told: false, ending, .. })) => match ending {
                Ending::Completed => Step::Completed,
                Ending::Failed { .. } => Step::Failed,
                Ending::RolledBack(_) => Step::RolledBack,
            },
            (None, _) => Step::StandBy,
        }
    }
}

/// A step as the twin's `firmware.step` spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Step {
    /// No update is under way.
    StandBy,
    /// The package or the image is on its way.
    Downloading,
    /// The image is held against its digest.
    Verifying,
    /// The image is made ready; the device will boot into it.
    Applying,
    /// The new image runs and must show that it is healthy.
    Confirming,
    /// The old image is being put back.
    RollingBack,
    /// The new image runs for good.
    Completed,
    /// The update failed; the old image was never left.
    Failed,
    /// The new image did not confirm; the old one runs again.
    RolledBack,
}

impl Ending {
    /// Why it did not work.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Completed => None,
            Self::Failed { failure, .. } | Self::RolledBack(failure) => Some(failure),
        }
    }

    /// The code of what went wrong.
    pub fn code(&self) -> Option<Code> {
        self.failure().map(|failure| failure.code)
    }
}

/// Times as the hub writes them.
mod time {
    use super::*;

    pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        Timestamp::parse(&text).ok_or_else(|| serde::de::Error::custom("not a time"))
    }
}

/// The same where there may be none.
mod maybe_time {
    use super::*;

    pub fn serialize<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.collect_str(time),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        Timestamp::parse(&text).map(Some).ok_or_else(|| serde::de::Error::custom("not a time"))
    }
}
