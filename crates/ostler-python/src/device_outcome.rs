//! What becomes of commands and connections, in the few words and numbers that cross to Python (revival §2.7).
//!
//! Must not know: Python.

use ostler_device_sdk::{Cause, ConnectionStatus, Reported, SendError, TwinError};

/// The outcome of a message.
pub(crate) fn send_outcome(outcome: Result<(), SendError>) -> &'static str {
    match outcome {
        Ok(()) => "ok",
        Err(SendError::Expired) => "timeout",
        Err(SendError::Closed) => "closed",
        Err(error) => {
            tracing::warn!(%error, "a message was not sent");
            "error"
        }
    }
}

/// The status of a report: the hub's if it said one, else what fits; None when the client ended before.
pub(crate) fn report_status(outcome: Result<Reported, TwinError>) -> Option<u16> {
    let error = match outcome {
        Ok(_) => return Some(204),
        Err(error) => error,
    };
    tracing::warn!(%error, "reported properties were not taken");
    match error {
        TwinError::Refused { status, .. } => Some(status),
        TwinError::NotAnObject(_) | TwinError::Shape(_) => Some(400),
        TwinError::TooLarge { .. } => Some(413),
        TwinError::QueueFull { .. } => Some(429),
        TwinError::Closed => None,
        // The client that ended was answered with this number too; so is who waited too long.
        _ => Some(408),
    }
}

/// Whether there is a connection and why (or why not), in the retired package's names; None for what it did not tell.
pub(crate) fn status_reason(status: ConnectionStatus) -> Option<(bool, &'static str)> {
    match status {
        ConnectionStatus::Connected => Some((true, "CONNECTION_OK")),
        ConnectionStatus::Disconnected { cause, .. } | ConnectionStatus::Refused { cause } => {
            Some((false, reason(cause)))
        }
        _ => None,
    }
}

fn reason(cause: Cause) -> &'static str {
    match cause {
        Cause::TokenExpired => "EXPIRED_SAS_TOKEN",
        Cause::BadCredential => "BAD_CREDENTIAL",
        // CONNACK 5 and 3.
        Cause::NotAuthorized | Cause::Busy => "DEVICE_DISABLED",
        Cause::RetryExpired => "RETRY_EXPIRED",
        Cause::Protocol => "COMMUNICATION_ERROR",
        _ => "NO_NETWORK",
    }
}
