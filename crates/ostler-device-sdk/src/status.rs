//! How the connection is doing, in the application's words.
//!
//! Must not know sockets or MQTT.

use std::fmt;
use std::time::Duration;

/// The state of a client's connection to its hub.
///
/// ```
/// # fn example(client: ostler_device_sdk::Client) {
/// use ostler_device_sdk::ConnectionStatus;
///
/// if let ConnectionStatus::Disconnected { cause, next_attempt } = client.status() {
///     println!("{cause}; the next attempt: {next_attempt:?}");
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionStatus {
    /// Nothing has needed a connection yet.
    #[default]
    Idle,
    /// A connection is being made.
    Connecting {
        /// Which attempt this is since the last connection that lasted, counted from 1.
        attempt: u32,
    },
    /// The hub has let the client in.
    Connected,
    /// There is no connection.
    Disconnected {
        /// What ended the last one, or kept it from being made.
        cause: Cause,
        /// When the next attempt will be made; `None` if there will be none.
        next_attempt: Option<Duration>,
    },
    /// There is no connection and no further attempt will be made by itself. What was waiting to be sent has
    /// failed.
    Refused {
        /// Why.
        cause: Cause,
    },
    /// The application has closed the client.
    Closed,
}

impl ConnectionStatus {
    /// Whether the hub has let the client in.
    ///
    /// ```
    /// use ostler_device_sdk::ConnectionStatus;
    ///
    /// assert!(ConnectionStatus::Connected.is_connected());
    /// assert!(!ConnectionStatus::Idle.is_connected());
    /// ```
    pub fn is_connected(self) -> bool {
        self == ConnectionStatus::Connected
    }
}

/// Why there is no connection.
///
/// ```
/// println!("{}", ostler_device_sdk::Cause::NotAuthorized);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The token ran out and is replaced (device §1.4): the client comes back at once.
    TokenExpired,
    /// The hub takes the credential for malformed (CONNACK 2 or 4), or none could be made of the key.
    BadCredential,
    /// The hub does not let this identity in (CONNACK 5): wrong key, clock far off, unknown or disabled
    /// device (device §2.4).
    NotAuthorized,
    /// The hub cannot be reached: no such name, no route, nobody listening, no answer to dialling.
    NoNetwork,
    /// The TLS handshake failed; most often the hub's certificate is not trusted.
    Tls,
    /// The hub said something that is not MQTT 3.1.1, or speaks no MQTT 3.1.1 at all.
    Protocol,
    /// The hub has too much to do at the moment (CONNACK 3, or HTTP 429 or 503).
    Busy,
    /// The connection broke or the hub closed it; a hub gives no reason (device §2.10). Among the possible
    /// ones: the device was disabled, or connected a second time.
    Closed,
    /// The hub fell silent.
    NoAnswer,
    /// The time that the retry policy allows has passed without success.
    RetryExpired,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::TokenExpired => "the token ran out and is being replaced",
            Cause::BadCredential => {
                "the hub cannot read the credential; check device id and key in the connection string"
            }
            Cause::NotAuthorized => {
                "the hub does not let this device in; check the key, the clock, and that the device exists and \
                 is enabled"
            }
            Cause::NoNetwork => "the hub cannot be reached; check host name, port and network",
            Cause::Tls => "the TLS handshake failed; check that the hub's certificate authority is trusted",
            Cause::Protocol => "the other side does not speak MQTT 3.1.1 properly; check that it is a hub",
            Cause::Busy => "the hub is too busy",
            Cause::Closed => "the connection broke or the hub closed it",
            Cause::NoAnswer => "the hub does not answer any more",
            Cause::RetryExpired => "no connection came about within the time that the retry policy allows",
        })
    }
}
