//! The live stream: what happens, as it happens, for whoever watches.
//!
//! Nothing is kept. A watcher that falls behind misses events and is told how many.
//!
//! Invariant: with nobody watching, an event costs one atomic load.

use crate::session::EndReason;
use ostler_core::auth::GrantScope;
use ostler_core::id::EntityId;
use ostler_core::json::Object;
use ostler_core::time::Timestamp;
use ostler_core::twin::SectionKind;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;

/// Events that a watcher may fall behind before it misses some.
const WATCHER_BACKLOG: usize = 4096;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// To whom; the text is free for sign-in failures of unknown names.
    pub id: String,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// A device or module connected.
    Connected {
        /// From where.
        peer: Option<IpAddr>,
        /// By which front end, such as `mqtt` or `mqtt-ws`.
        transport: &'static str,
    },
    /// A connection ended.
    Disconnected {
        /// Why.
        reason: EndReason,
    },
    /// A section of a twin changed.
    TwinChanged {
        /// Which one.
        section: SectionKind,
        /// Its version after the change.
        version: u64,
        /// The patch, removals as `null`.
        patch: Object,
    },
    /// An identity was created, changed or deleted.
    Registry {
        /// What was done: `created`, `updated` or `deleted`.
        operation: &'static str,
    },
    /// A method call ended.
    Method {
        /// Which method.
        name: String,
        /// The device's status, or why there is none.
        outcome: Result<i32, String>,
        /// How long it took.
        took: Duration,
    },
    /// A device sent a message.
    Telemetry(Telemetry),
    /// A device uploaded a file and said so.
    FileUploaded {
        /// The file's name with its device.
        name: String,
        /// The name, and the port if any, under which the device knows the hub's files.
        host: String,
        /// Bytes.
        size: u64,
        /// When it was stored.
        modified: Timestamp,
    },
    /// A device gave an upload up.
    FileUploadFailed {
        /// The file's name with its device.
        name: String,
        /// The storage's status, as the device saw it.
        status: Option<i64>,
        /// The device's words.
        description: Option<String>,
    },
    /// A sign-in was refused.
    SignInFailed {
        /// From where.
        peer: Option<IpAddr>,
        /// Why.
        cause: String,
    },
}

impl EventKind {
    /// The group that filters name.
    pub fn group(&self) -> &'static str {
        match self {
            EventKind::Connected { .. } | EventKind::Disconnected { .. } => "connection",
            EventKind::TwinChanged { .. } => "twin",
            EventKind::Registry { .. } => "registry",
            EventKind::Method { .. } => "method",
            EventKind::Telemetry(_) => "telemetry",
            EventKind::FileUploaded { .. } | EventKind::FileUploadFailed { .. } => "file",
            EventKind::SignInFailed { .. } => "auth",
        }
    }
}

/// A message from a device, as the front end took it apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Telemetry {
    /// System properties by their service names.
    pub system: Vec<(String, Option<String>)>,
    /// Application properties.
    pub application: Vec<(String, Option<String>)>,
    /// The body.
    pub body: Vec<u8>,
    /// What the sender's sign-in was granted on.
    pub scope: Option<GrantScope>,
}

/// The sending side of the live stream.
#[derive(Debug)]
pub struct Events(broadcast::Sender<Arc<Event>>);

impl Default for Events {
    fn default() -> Events {
        Events(broadcast::Sender::new(WATCHER_BACKLOG))
    }
}

impl Events {
    /// Watches from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.0.subscribe()
    }

    /// Whether anybody watches.
    pub fn is_watched(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Tells the watchers; the event is only made when there are some.
    pub fn emit(&self, make: impl FnOnce() -> Event) {
        if self.is_watched() {
            // An error means that the last watcher left meanwhile.
            let _ = self.0.send(Arc::new(make()));
        }
    }
}

/// An event about an entity, for [`Events::emit`].
pub(crate) fn about(id: &EntityId, at: Timestamp, kind: EventKind) -> Event {
    Event { at, id: id.to_string(), kind }
}
