//! What can go wrong, in types that say what, why and what to do. Errors of messages are in [`crate::message`].
//!
//! Invariant: no text ever holds a key, a token or a payload.

use serde::Deserialize;

use crate::status::Cause;

/// Why no client could be made of what was given.
///
/// ```
/// use ostler_device_sdk::{Client, SetupError};
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let connection = "HostName=h.example;DeviceId=d;x509=true".parse()?;
/// let refused = Client::builder(connection).build();
/// assert!(matches!(refused, Err(SetupError::CertificateMissing)));
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// Authorities cannot be read.
    #[error("cannot read certificate authorities from {origin}: {why}")]
    Roots {
        /// The file, or the option.
        origin: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is nobody to trust.
    #[error(
        "no certificate authority is trusted, so no hub could be; give its CA by `root_ca_pem` or the variable \
         OSTLER_CA_FILE (`ostler ca` prints it)"
    )]
    NoRoots,
    /// The client certificate cannot be used.
    #[error("the client certificate cannot be used: {0}")]
    Certificate(String),
    /// The connection string says `x509=true`.
    #[error("the connection string says x509=true; give certificate and key by `client_certificate_pem`")]
    CertificateMissing,
    /// A setting has a value that makes no sense.
    #[error("{name}: {why}")]
    Setting {
        /// The builder's method.
        name: &'static str,
        /// What is wrong with its value.
        why: String,
    },
    /// There is no tokio runtime to run on.
    #[error("there is no tokio runtime here; build the client inside one, or name one by `runtime`")]
    NoRuntime,
}

/// Why there is no connection, from [`Client::connect`](crate::Client::connect).
///
/// ```no_run
/// # async fn example(client: ostler_device_sdk::Client) {
/// if let Err(error) = client.connect().await {
///     eprintln!("{error}");
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The client has given up, by its retry policy or because trying again cannot help.
    #[error("not connected: {cause}{}", in_brackets(.detail))]
    Refused {
        /// Why, for programs.
        cause: Cause,
        /// Why, for people: what exactly happened last. May be empty.
        detail: String,
    },
    /// The client was closed.
    #[error("the client is closed; make a new one")]
    Closed,
}

fn in_brackets(detail: &str) -> String {
    if detail.is_empty() {
        String::new()
    } else {
        format!(" ({detail})")
    }
}

/// Why a twin could not be read or changed.
///
/// ```no_run
/// # async fn example(client: ostler_device_sdk::Client) {
/// use ostler_device_sdk::TwinError;
///
/// match client.report(&serde_json::json!({"fan": "on"})).await {
///     Err(TwinError::Refused { status, message, .. }) => eprintln!("{status}: {message}"),
///     other => println!("{other:?}"),
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TwinError {
    /// What was to be reported is no JSON object.
    #[error("reported properties must be a JSON object: {0}")]
    NotAnObject(String),
    /// What came does not fit into the type asked for.
    #[error("the properties do not have the expected shape: {0}")]
    Shape(String),
    /// The patch alone is larger than a twin may be.
    #[error("the patch has {size} bytes, which no hub takes; keep large data out of the twin")]
    TooLarge {
        /// In bytes.
        size: usize,
    },
    /// Too much waits already. Nothing was queued; wait for answers, or raise the limits.
    #[error("the queue is full: {messages} items with {bytes} bytes wait; wait for answers before asking for more")]
    QueueFull {
        /// How many messages and twin requests wait.
        messages: usize,
        /// What they count for.
        bytes: usize,
    },
    /// The hub has not answered in time. A change may have been made all the same; to report it again does no harm.
    #[error("the hub did not answer in time; is the device connected?")]
    TimedOut,
    /// The hub refuses.
    #[error("the hub refuses ({status}): {message}")]
    Refused {
        /// As HTTP means it: 400 for a patch that breaks a rule, 429 when there was too much.
        status: u16,
        /// The hub's error number, or 0.
        code: u64,
        /// The hub's words.
        message: String,
    },
    /// The client was closed before the answer came.
    #[error("the client was closed before the hub answered")]
    Closed,
    /// The client has given up connecting.
    #[error("the client has given up connecting: {0}")]
    NotConnected(Cause),
}

impl TwinError {
    /// Reads the hub's error body, as far as it is one (device §4.3).
    pub(crate) fn refused(status: u16, body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Fault {
            #[serde(rename = "errorCode", default)]
            code: u64,
            #[serde(default)]
            message: String,
        }
        let fault = serde_json::from_slice::<Fault>(body).ok();
        let (code, message) = fault.map_or((0, String::new()), |fault| (fault.code, fault.message));
        let message = if message.is_empty() { "it gives no reason".to_owned() } else { message };
        Self::Refused { status, code, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hubs_words_are_kept() {
        let body = br#"{"errorCode":400004,"trackingId":"x","message":"no dots","timestampUtc":""}"#;
        assert_eq!(TwinError::refused(400, body).to_string(), "the hub refuses (400): no dots");
        assert_eq!(TwinError::refused(500, b"oops").to_string(), "the hub refuses (500): it gives no reason");
    }

    #[test]
    fn a_detail_is_shown_if_there_is_one() {
        let error = |detail: &str| ConnectError::Refused { cause: Cause::Busy, detail: detail.to_owned() };
        assert_eq!(error("").to_string(), "not connected: the hub is too busy");
        assert_eq!(error("429").to_string(), "not connected: the hub is too busy (429)");
    }
}
