//! What the one error map leaves to HTTP: statuses that differ from the code's, headers, and what goes to the log.
//!
//! Must not know codes and texts; those are [`crate::error_map`]'s.
//!
//! Invariant: a cause that only the operator may know is in the failure's detail, never in its text.

use super::answer::Failure;
use crate::error_map;
use http::{header, HeaderValue, StatusCode};
use ostler_hub::Error;
use ostler_store::StoreError;

/// When a client may try again after the hub was too busy, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let (code, text) = error_map::public(&error);
        let failure = Failure::new(code, text);
        match error {
            Error::NameTaken(_) => failure.with_status(StatusCode::CONFLICT),
            Error::DeviceNotOnline { waited } | Error::MethodTimeout { waited } => {
                Failure { waited: Some(waited), ..failure }
            }
            // A metric shows both; a log line for each would make it worse.
            Error::Contended | Error::Store(StoreError::Overloaded) => {
                failure.with_header(header::RETRY_AFTER, RETRY_AFTER)
            }
            Error::Store(_) => failure.with_detail(error.to_string()),
            _ => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ostler_core::auth::AuthFailure;
    use ostler_core::identity::IdentityError;
    use ostler_core::message::MessageError;
    use ostler_core::method::MethodError;
    use ostler_core::twin::TwinError;
    use ostler_hub::files::FileError;
    use std::time::Duration;

    /// One of each error, and what a client reads.
    #[test]
    fn every_error_has_its_code_and_text() {
        let twin = TwinError::Value { path: "a".into(), rule: "is wrong" };
        let secs = Duration::from_secs;
        let errors = [
            Error::DeviceNotFound("d".into()),
            Error::ModuleNotFound("d/m".into()),
            Error::DeviceExists("d".into()),
            Error::ModuleExists("d/m".into()),
            Error::PreconditionFailed,
            Error::InvalidArgument("x is wrong".into()),
            Error::InvalidJson(ostler_core::json::Value::parse(b"{").unwrap_err()),
            Error::Query(ostler_core::query::Query::parse("SELECT", Default::default()).unwrap_err()),
            Error::Identity(IdentityError::KeyEncoding),
            Error::Twin(twin),
            Error::Method(MethodError::NoName),
            Error::Method(MethodError::PayloadSize(200_000)),
            Error::Unauthorized(AuthFailure::WrongKey),
            Error::Unauthorized(AuthFailure::UnknownPolicy("secret".into())),
            Error::Unauthorized(AuthFailure::Expired { by_secs: 7 }),
            Error::Unauthorized(AuthFailure::MissingRight { policy: "p".into(), right: "RegistryWrite" }),
            Error::Message(MessageError::QueueFull),
            Error::Message(MessageError::TooLarge(70_000)),
            Error::Message(MessageError::Expiry(ostler_core::time::Timestamp::UNIX_EPOCH)),
            Error::Message(MessageError::NoName),
            Error::TooManyMessages(1_000_000),
            Error::LockLost,
            Error::RateLimited,
            Error::DeviceNotOnline { waited: secs(0) },
            Error::DeviceNotOnline { waited: secs(5) },
            Error::MethodTimeout { waited: secs(30) },
            Error::BadDeviceAnswer("no JSON".into()),
            Error::TooManyCalls(1024),
            Error::TooManyDevices,
            Error::TooManyModules,
            Error::NameTaken("p".into()),
            Error::NameUnknown("p".into()),
            Error::File(FileError::TooManyUploads),
            Error::File(FileError::UnknownUpload),
            Error::File(FileError::ExpiredUpload),
            Error::File(FileError::NothingStored),
            Error::File(FileError::NoRoom("its disk is full")),
            Error::File(FileError::NotFound("d/f".into())),
            Error::File(FileError::Disk),
            Error::File(FileError::Store(StoreError::Unavailable("/var/lib/secret: no space".into()))),
            Error::Contended,
            Error::Store(StoreError::Unavailable("/var/lib/secret: no space".into())),
            Error::Store(StoreError::Overloaded),
            Error::Store(StoreError::Closed),
            Error::Store(StoreError::Corrupt { id: "d".into(), reason: "checksum".into() }),
        ];
        let lines: Vec<String> = errors
            .into_iter()
            .map(|error| {
                let failure = Failure::from(error);
                let text = failure.text.replace("\n\t", "\\n\\t");
                format!("{} {} {text}", failure.status().as_u16(), failure.code)
            })
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
            404 DeviceNotFound d
            404 ModuleNotFound d/m
            409 DeviceAlreadyExists A device with ID 'd' is already registered.
            409 ModuleAlreadyExistsOnDevice A module with ID 'd/m' is already registered.
            412 PreconditionFailed the etag or version given does not match the current one
            400 ArgumentInvalid x is wrong
            400 DeserializationError the body is not valid JSON: the text ends in the middle of a value at byte 1
            400 IotHubFormatError SQL query parse failed due to following errors: \n\tLine 1:7 found the end of the text, expected '*', a path or an aggregate
            400 ArgumentInvalid a symmetric key is not valid base64
            400 ArgumentInvalid the value of "a" is wrong
            400 ArgumentInvalid methodName is missing or empty
            413 MessageTooLarge the payload has 200000 bytes, the limit is 131072
            401 IotHubUnauthorizedAccess Unauthorized
            401 IotHubUnauthorizedAccess Unauthorized
            401 IotHubUnauthorizedAccess Unauthorized: the token expired 7 s ago
            401 IotHubUnauthorizedAccess Unauthorized: the policy "p" lacks the right RegistryWrite
            403 DeviceMaximumQueueDepthExceeded 50 messages wait for this device already; wait until it takes some, or purge its queue
            413 MessageTooLarge the message has 70000 bytes with its properties, the limit is 65536; send less, or a link to it
            403 InvalidMessageExpiryTime the expiry 1970-01-01T00:00:00.0000000Z must be in the future, and within 48 hours from now
            400 ArgumentInvalid a property has an empty name; give it one
            403 IotHubQuotaExceeded 1000000 messages wait in this hub already; wait until devices take some, or purge queues
            412 DeviceMessageLockLost the lock is not held any more; what it held is handed out again
            429 ThrottlingException too many failed sign-ins from this address; try again later
            404 DeviceNotOnline The device is not connected, or has not subscribed to direct methods.
            404 DeviceNotOnline Timed out waiting for device to connect.
            504 GatewayTimeout Timed out waiting for the response from device.
            502 BadDeviceResponse the device's answer cannot be used: no JSON
            403 DeviceMaximumInflightMethodExceeded 1024 method calls are waiting for this device already
            413 TooManyDevices the hub holds as many identities as it may
            413 TooManyModulesOnDevice the device has as many modules as it may
            409 InvalidOperation "p" exists already
            404 GenericNotFound there is no "p"
            403 DeviceMaximumActiveFileUploadLimitExceeded the device has 10 file uploads in progress; finish one with a notification, or wait until one expires
            400 InvalidFileUploadCorrelationId there is no file upload with this correlation id for this device
            400 ExpiredFileUploadCorrelationId the file upload has expired; begin it again
            400 InvalidStorageEndpointOrBlob nothing was stored by this upload; send the file before the notification, or notify a failure
            503 ServiceUnavailable the hub has no room for more files: its disk is full
            404 GenericNotFound there is no file "d/f"
            503 ServiceUnavailable the hub cannot read or write its files now; the operator's log says why
            503 ServiceUnavailable the hub's store cannot do this now; the operator's log says why
            503 ServerBusy the record is being changed by too many at once; try again
            503 ServiceUnavailable the hub's store cannot do this now; the operator's log says why
            503 ServerBusy too much is waiting already; try again
            503 ServiceUnavailable the hub is stopping
            500 ServerError the stored record cannot be read; the operator's log says why
            "#);
    }
}
