//! The one map from what the hub says went wrong to the code and the text that clients read, on
//! every front end.
//!
//! It must not know how a front end spells a code.
//!
//! Invariant: the match is exhaustive, so that a new error of the hub cannot reach a client
//! unnamed.
//! Invariant: what only the operator may know (a disk's message, whether a policy exists) is not
//! in the text.

use std::borrow::Cow;
use std::time::Duration;

use ostler_core::auth::AuthFailure;
use ostler_core::configuration::ConfigurationError;
use ostler_core::message::MessageError;
use ostler_core::method::MethodError;
use ostler_core::query::ParseError;
use ostler_hub::files::FileError;
use ostler_hub::Error;
use ostler_store::StoreError;
use ostler_wire::rest::error::ErrorCode;

/// The code and the text for a caller.
pub(crate) fn public(error: &Error) -> (ErrorCode, Cow<'static, str>) {
    let code = match error {
        Error::DeviceNotFound(id) => return (ErrorCode::DeviceNotFound, id.clone().into()),
        Error::ModuleNotFound(id) => return (ErrorCode::ModuleNotFound, id.clone().into()),
        Error::DeviceExists(id) => {
            let text = format!("A device with ID '{id}' is already registered.");
            return (ErrorCode::DeviceAlreadyExists, text.into());
        }
        Error::ModuleExists(id) => {
            let text = format!("A module with ID '{id}' is already registered.");
            return (ErrorCode::ModuleAlreadyExistsOnDevice, text.into());
        }
        Error::Unauthorized(cause) => return (ErrorCode::IotHubUnauthorizedAccess, unauthorized(cause)),
        Error::DeviceNotOnline { waited } => return (ErrorCode::DeviceNotOnline, not_online(*waited).into()),
        Error::MethodTimeout { .. } => {
            return (ErrorCode::GatewayTimeout, "Timed out waiting for the response from device.".into())
        }
        Error::Store(error) => return store(error),
        Error::PreconditionFailed => ErrorCode::PreconditionFailed,
        Error::InvalidArgument(_) | Error::Identity(_) | Error::Twin(_) => ErrorCode::ArgumentInvalid,
        Error::Query(error) => return (ErrorCode::IotHubFormatError, query(error).into()),
        Error::InvalidJson(_) => ErrorCode::DeserializationError,
        Error::Method(MethodError::PayloadSize(_)) => ErrorCode::MessageTooLarge,
        Error::Method(_) => ErrorCode::ArgumentInvalid,
        Error::Message(error) => message(error),
        Error::TooManyMessages(_) => ErrorCode::IotHubQuotaExceeded,
        Error::LockLost => ErrorCode::DeviceMessageLockLost,
        Error::RateLimited => ErrorCode::ThrottlingException,
        Error::BadDeviceAnswer(_) => ErrorCode::BadDeviceResponse,
        Error::TooManyCalls(_) => ErrorCode::DeviceMaximumInflightMethodExceeded,
        Error::TooManyDevices => ErrorCode::TooManyDevices,
        Error::TooManyModules => ErrorCode::TooManyModulesOnDevice,
        // The service's table has no code for a name in general.
        Error::NameTaken(_) => ErrorCode::InvalidOperation,
        Error::NameUnknown(_) => ErrorCode::GenericNotFound,
        Error::JobNotFound(_) => ErrorCode::JobNotFound,
        Error::JobExists(_) => ErrorCode::JobAlreadyExists,
        Error::TooManyJobs(_) => ErrorCode::ThrottlingMaxActiveJobCountExceeded,
        Error::Job(_) => ErrorCode::ArgumentInvalid,
        Error::JobState(_) => ErrorCode::InvalidOperation,
        Error::ConfigurationNotFound(_) => ErrorCode::ConfigurationNotFound,
        Error::ConfigurationExists(_) => ErrorCode::ConfigurationAlreadyExists,
        Error::TooManyConfigurations => ErrorCode::ConfigurationCountLimitExceeded,
        Error::Configuration(error) => configuration(error),
        Error::File(FileError::Store(error)) => return store(error),
        Error::File(error) => file(error),
        Error::Contended => ErrorCode::ServerBusy,
    };
    (code, error.to_string().into())
}

fn configuration(error: &ConfigurationError) -> ErrorCode {
    match error {
        ConfigurationError::Id(_) | ConfigurationError::Argument(_) => ErrorCode::ArgumentInvalid,
        ConfigurationError::Content(_) => ErrorCode::InvalidConfigurationContent,
        ConfigurationError::ContentChanged => ErrorCode::CannotModifyImmutableConfigurationContent,
        ConfigurationError::Condition(_) => ErrorCode::InvalidConfigurationTargetCondition,
        ConfigurationError::Metric { .. } => ErrorCode::InvalidConfigurationCustomMetricsQuery,
    }
}

fn file(error: &FileError) -> ErrorCode {
    match error {
        FileError::Name(_) => ErrorCode::ArgumentInvalid,
        FileError::TooManyUploads => ErrorCode::DeviceMaximumActiveFileUploadLimitExceeded,
        FileError::UnknownUpload => ErrorCode::InvalidFileUploadCorrelationId,
        FileError::ExpiredUpload => ErrorCode::ExpiredFileUploadCorrelationId,
        FileError::NothingStored => ErrorCode::InvalidStorageEndpointOrBlob,
        FileError::Denied(_) => ErrorCode::IotHubUnauthorizedAccess,
        FileError::TooLarge(_) | FileError::TooManyBlocks => ErrorCode::MessageTooLarge,
        FileError::MissingBlock(_) => ErrorCode::ArgumentInvalid,
        FileError::Exists(_) => ErrorCode::InvalidOperation,
        FileError::NotFound(_) => ErrorCode::GenericNotFound,
        FileError::HubBusy => ErrorCode::ServerBusy,
        FileError::NoRoom(_) | FileError::Disk | FileError::Store(_) => ErrorCode::ServiceUnavailable,
    }
}

fn message(error: &MessageError) -> ErrorCode {
    match error {
        MessageError::QueueFull => ErrorCode::DeviceMaximumQueueDepthExceeded,
        MessageError::TooLarge(_) => ErrorCode::MessageTooLarge,
        MessageError::Expiry(_) => ErrorCode::InvalidMessageExpiryTime,
        _ => ErrorCode::ArgumentInvalid,
    }
}

/// What a caller learns of a refused sign-in. A cause that only a holder of a valid key can meet,
/// or that lies in the form of the token, is told, because it helps and reveals nothing; the
/// others read alike.
fn unauthorized(cause: &AuthFailure) -> Cow<'static, str> {
    match cause {
        AuthFailure::Malformed(_)
        | AuthFailure::Expired { .. }
        | AuthFailure::WrongScope
        | AuthFailure::MissingRight { .. }
        | AuthFailure::NotAPolicy => format!("Unauthorized: {cause}").into(),
        _ => "Unauthorized".into(),
    }
}

/// As the service words it where it does (query §1).
fn query(error: &ParseError) -> String {
    format!("SQL query parse failed due to following errors: \n\t{error}")
}

fn not_online(waited: Duration) -> &'static str {
    if waited.is_zero() {
        "The device is not connected, or has not subscribed to direct methods."
    } else {
        "Timed out waiting for device to connect."
    }
}

fn store(error: &StoreError) -> (ErrorCode, Cow<'static, str>) {
    match error {
        StoreError::Unavailable(_) => (
            ErrorCode::ServiceUnavailable,
            "the hub's store cannot do this now; the operator's log says why".into(),
        ),
        StoreError::Closed => (ErrorCode::ServiceUnavailable, "the hub is stopping".into()),
        StoreError::Overloaded => (ErrorCode::ServerBusy, "too much is waiting already; try again".into()),
        StoreError::Groups(error) => (ErrorCode::ArgumentInvalid, error.to_string().into()),
        StoreError::Corrupt { .. } => {
            (ErrorCode::ServerError, "the stored record cannot be read; the operator's log says why".into())
        }
    }
}
