//! What an operation answers when it does not succeed. The front ends map it to their wire in one place.
//!
//! Invariant: the text of an error may be shown to the caller; what only the operator may know is logged.

use crate::files::FileError;
use ostler_core::auth::AuthFailure;
use ostler_core::configuration::ConfigurationError;
use ostler_core::id::EntityId;
use ostler_core::identity::IdentityError;
use ostler_core::job::{JobError, Refused};
use ostler_core::json;
use ostler_core::limits::CONFIGURATIONS;
use ostler_core::message::MessageError;
use ostler_core::method::MethodError;
use ostler_core::query::ParseError;
use ostler_core::twin::TwinError;
use ostler_store::{CommitError, StoreError};
use std::time::Duration;

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such device.
    #[error("the device {0:?} is not registered")]
    DeviceNotFound(String),
    /// No such module, though its device may exist.
    #[error("the module {0:?} is not registered")]
    ModuleNotFound(String),
    /// A device of that name is there already.
    #[error("a device with ID {0:?} is already registered")]
    DeviceExists(String),
    /// A module of that name is there already.
    #[error("a module with ID {0:?} is already registered")]
    ModuleExists(String),
    /// The etag or version that the caller named is not the current one.
    #[error("the etag or version given does not match the current one")]
    PreconditionFailed,
    /// The request itself is wrong.
    #[error("{0}")]
    InvalidArgument(String),
    /// The body is not the JSON it should be.
    #[error("the body is not valid JSON: {0}")]
    InvalidJson(#[from] json::Error),
    /// A rule of identities is broken.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A rule of twins is broken.
    #[error(transparent)]
    Twin(#[from] TwinError),
    /// A query cannot be read.
    #[error("the query cannot be read: {0}")]
    Query(#[from] ParseError),
    /// A rule of method calls is broken.
    #[error(transparent)]
    Method(#[from] MethodError),
    /// A rule of cloud-to-device messages is broken.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// As many messages wait in the hub as may.
    #[error("{0} messages wait in this hub already; wait until devices take some, or purge queues")]
    TooManyMessages(usize),
    /// What was locked is not locked any more, or never was.
    #[error("the lock is not held any more; what it held is handed out again")]
    LockLost,
    /// The sign-in failed; the cause is for the operator.
    #[error("unauthorized")]
    Unauthorized(AuthFailure),
    /// The source failed to sign in too often.
    #[error("too many failed sign-ins from this address; try again later")]
    RateLimited,
    /// The device is not connected or does not take method calls.
    #[error("the device is not connected or has not subscribed to direct methods")]
    DeviceNotOnline {
        /// How long the call waited for it.
        waited: Duration,
    },
    /// The device did not answer in time.
    #[error("timed out waiting for the response from the device")]
    MethodTimeout {
        /// How long the call waited.
        waited: Duration,
    },
    /// The device answered with something that is not an answer.
    #[error("the device's answer cannot be used: {0}")]
    BadDeviceAnswer(String),
    /// Too many calls are waiting for this device.
    #[error("{0} method calls are waiting for this device already")]
    TooManyCalls(usize),
    /// The hub holds as many identities as it may.
    #[error("the hub holds as many identities as it may")]
    TooManyDevices,
    /// The device has as many modules as it may.
    #[error("the device has as many modules as it may")]
    TooManyModules,
    /// Something with that name exists: a policy or a certificate authority.
    #[error("{0:?} exists already")]
    NameTaken(String),
    /// Nothing with that name exists: a policy or a certificate authority.
    #[error("there is no {0:?}")]
    NameUnknown(String),
    /// No such job.
    #[error("there is no job {0:?}")]
    JobNotFound(String),
    /// A job of that name is there already.
    #[error("a job with ID {0:?} exists already; choose another ID")]
    JobExists(String),
    /// As many jobs as may wait or run.
    #[error("{0} jobs wait or run already; wait for some to end or cancel them")]
    TooManyJobs(usize),
    /// A rule of jobs is broken.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The job's state does not allow it.
    #[error(transparent)]
    JobState(#[from] Refused),
    /// No such configuration.
    #[error("there is no configuration {0:?}")]
    ConfigurationNotFound(String),
    /// A configuration of that name is there already.
    #[error("a configuration with ID {0:?} exists already; to update it, send its etag or * in If-Match")]
    ConfigurationExists(String),
    /// The hub holds as many configurations as it may.
    #[error("the hub holds {CONFIGURATIONS} configurations, which is as many as it may; delete one first")]
    TooManyConfigurations,
    /// A rule of configurations is broken.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// Something with a file was not done.
    #[error(transparent)]
    File(#[from] FileError),
    /// The record changed again and again while the change was being decided.
    #[error("the record is being changed by too many at once; try again")]
    Contended,
    /// The store cannot do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Error {
    /// Nobody of that name: a device or a module.
    pub(crate) fn not_found(id: &EntityId) -> Error {
        match id.module() {
            None => Error::DeviceNotFound(id.to_string()),
            Some(_) => Error::ModuleNotFound(id.to_string()),
        }
    }

    /// Somebody of that name: a device or a module.
    pub(crate) fn exists(id: &EntityId) -> Error {
        match id.module() {
            None => Error::DeviceExists(id.to_string()),
            Some(_) => Error::ModuleExists(id.to_string()),
        }
    }

    /// What a refused commit means where no record is concerned.
    pub(crate) fn plain(error: CommitError) -> Error {
        match error {
            CommitError::Store(error) => Error::Store(error),
            _ => Error::Contended,
        }
    }

    /// What a refused commit means for a change of `id`.
    pub(crate) fn commit(id: &EntityId, error: CommitError) -> Error {
        match error {
            CommitError::Conflict => Error::Contended,
            CommitError::Exists => Error::exists(id),
            CommitError::Missing => Error::not_found(id),
            CommitError::NoDevice => Error::DeviceNotFound(id.device().to_owned()),
            CommitError::Store(error) => Error::Store(error),
        }
    }
}
