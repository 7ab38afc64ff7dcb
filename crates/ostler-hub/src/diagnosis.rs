//! Why is this device offline? One call gathers what the hub knows and says it in a sentence.

use crate::access::Failure;
use crate::bus::Bus;
use crate::error::Error;
use crate::hub::{Ended, Hub};
use crate::session::EndReason;
use ostler_core::id::EntityId;
use ostler_core::identity::Status;
use ostler_core::record::{Activity, Subscriptions};
use ostler_core::time::Timestamp;

/// What the hub knows of an entity's connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnosis {
    /// About whom.
    pub id: EntityId,
    /// Whether it is registered.
    pub registered: bool,
    /// Whether its device may connect.
    pub enabled: bool,
    /// How it signs in (service §5.4), when registered.
    pub authentication: Option<&'static str>,
    /// Whether it is connected now.
    pub connected: bool,
    /// When it connected, disconnected and was last heard of.
    pub activity: Activity,
    /// What it listens to now, or would after it reconnects.
    pub subscriptions: Subscriptions,
    /// How its last connection ended, as far as remembered since the hub started.
    pub last_end: Option<Ended>,
    /// Its last refused sign-in, as far as remembered since the hub started.
    pub last_failure: Option<Failure>,
    /// The likeliest explanation.
    pub summary: String,
    /// What to do about it.
    pub advice: String,
}

impl Hub {
    /// Says why a device or module is offline, or that it is not.
    ///
    /// # Errors
    /// The store's only: an unknown name is a finding too.
    pub async fn diagnose(&self, id: &EntityId) -> Result<Diagnosis, Error> {
        let record = self.store.load(id).await?;
        let enabled = match id.is_module() {
            true => self.store.load(&id.device_id().into()).await?.map(|device| device.identity.status),
            false => record.as_ref().map(|record| record.identity.status),
        };
        let session = self.bus.sessions.get(id);
        let last_end = self.ends.lock().get(id).copied();
        let mut diagnosis = Diagnosis {
            registered: record.is_some(),
            enabled: enabled == Some(Status::Enabled),
            authentication: record.as_ref().map(|record| record.identity.authentication.type_name()),
            connected: self.bus.is_connected(id),
            activity: session.as_ref().map_or_else(
                || record.as_ref().map(|record| record.activity).unwrap_or_default(),
                |session| session.activity(),
            ),
            subscriptions: session.as_ref().map_or_else(
                || record.as_ref().map(|record| record.subscriptions).unwrap_or_default(),
                |session| session.subscriptions(),
            ),
            last_end,
            last_failure: self.access.last_failure(id.as_str()),
            id: id.clone(),
            summary: String::new(),
            advice: String::new(),
        };
        (diagnosis.summary, diagnosis.advice) = explain(&diagnosis, self.now());
        Ok(diagnosis)
    }
}

fn explain(diagnosis: &Diagnosis, now: Timestamp) -> (String, String) {
    let Diagnosis { activity, last_end, last_failure, .. } = diagnosis;
    let say = |summary: String, advice: &str| (summary, advice.to_owned());
    if !diagnosis.registered {
        let advice = "Register it, or check the spelling: ids are case-sensitive.";
        return say("It is not registered at this hub.".into(), advice);
    }
    if diagnosis.connected {
        let since = activity.connection_updated;
        let heard = now.unix_secs() - activity.last_activity.unix_secs();
        return say(format!("It is connected since {since}; last heard of {heard} s ago."), "Nothing to do.");
    }
    if !diagnosis.enabled {
        return say("Its device is disabled.".into(), "Enable the device to let it connect.");
    }
    if let Some(failure) = last_failure {
        if last_end.is_none_or(|end| end.at <= failure.at) {
            let Failure { at, cause, count, .. } = failure;
            let summary = format!("Its sign-in was refused at {at} ({count} times so far): {cause}.");
            return say(summary, "Correct the credential on the device, or the registration here.");
        }
    }
    match last_end {
        Some(end) => {
            let summary = format!("Its connection ended at {} ({}).", end.at, end.reason.name());
            say(summary, advice_after(end.reason))
        }
        None if activity.connection_updated.is_never() => {
            let advice = "Check that it is switched on, resolves the hub's name, reaches the port and trusts the hub's CA.";
            say("It has never connected.".into(), advice)
        }
        None => {
            let summary = format!("It was last connected until {}.", activity.connection_updated);
            say(summary, "The hub has restarted since; the device has not come back. Check its network.")
        }
    }
}

fn advice_after(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Client => "The device disconnected by itself; look at its own log.",
        EndReason::Lost => "The network or the device failed without a goodbye; check both.",
        EndReason::KeepAlive => {
            "Nothing was heard for one and a half keep-alive periods; check for a dead link or a hanging program."
        }
        EndReason::Protocol => "The device broke the protocol or a limit; the hub's log names it.",
        EndReason::TakenOver => {
            "Another client connected with the same id and has gone since; look for two programs sharing one identity."
        }
        EndReason::Disabled | EndReason::Deleted => "It was disabled or deleted, and is back now; it will reconnect.",
        EndReason::CredentialChanged => "Its keys or certificates were changed; give the device the new ones.",
        EndReason::TokenExpired => "Its token ran out without a renewal; check the device's clock and token lifetime.",
        EndReason::SlowConsumer => "It did not read what was sent to it; check its load and link.",
        EndReason::Failed => "The hub could not do what the device asked; the hub's log says why.",
        EndReason::Draining => "The hub was stopping; the device should reconnect by itself.",
    }
}
