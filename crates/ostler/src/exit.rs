//! Exit codes, and errors as a person at a terminal or a script meets them.
//!
//! Invariant: the numbers in [`Exit`] never change their meaning; `--help` and `docs/cli.md` list them.
//! Invariant: an error is one line, says what to do where that is known, and never shows a key.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use ostler_service_sdk::{Error, ErrorCode, ErrorKind};

/// The exit codes at the end of `--help`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed; also when some entries of a bulk operation or some devices of a job
     failed, or `doctor` found a fault
  2  wrong usage
  3  not found: the device, module, job, policy or file named does not exist
  4  conflict: it exists already, or was changed meanwhile
  5  unauthorized: the connection string's policy or key was refused, or lacks a right
  6  the hub cannot be reached, or did not answer in time
  7  the device is not connected, or did not answer in time
  8  the device answered the method with a status other than 2xx";

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Conflict = 4,
    Unauthorized = 5,
    Unreachable = 6,
    DeviceUnavailable = 7,
    DeviceRefused = 8,
}

/// Why a command ends early.
#[derive(Debug)]
pub enum Failure {
    /// To be told on stderr.
    Told { exit: Exit, message: String, advice: Option<String>, code: Option<String> },
    /// All has been said already.
    Silent(Exit),
    /// Whoever read our output has had enough, as `head` does; that is no error.
    OutputClosed,
}

pub type Result<T = ()> = std::result::Result<T, Failure>;

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self::Told { exit, message: message.into(), advice: None, code: None }
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A file that could not be read or written.
    pub fn file(path: &Path, error: &io::Error) -> Self {
        let exit = if error.kind() == io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
        Self::new(exit, format!("{}: {error}", path.display()))
    }

    /// Adds what to do about it.
    pub fn advise(mut self, text: impl Into<String>) -> Self {
        if let Self::Told { advice, .. } = &mut self {
            advice.get_or_insert_with(|| text.into());
        }
        self
    }

    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Told { exit, .. } | Self::Silent(exit) => ExitCode::from(*exit as u8),
            Self::OutputClosed => ExitCode::SUCCESS,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Told { message, .. } => f.write_str(message),
            Self::Silent(exit) => write!(f, "{exit:?}"),
            Self::OutputClosed => f.write_str("the output was closed"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    /// Only writing to stdout is converted without a context.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::failed(format!("cannot write the output: {error}"))
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        match error.io_error_kind() {
            Some(kind) => io::Error::from(kind).into(),
            None => Self::failed(format!("JSON: {error}")),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = error.fault().and_then(|fault| fault.code);
        let (exit, advice) = match error.kind() {
            ErrorKind::NotFound if code == Some(ErrorCode::GenericNotFound) => (
                Exit::NotFound,
                Some("A hub with `--compat strict`, and Azure IoT Hub, have none of Ostler's own routes"),
            ),
            ErrorKind::NotFound => (Exit::NotFound, None),
            ErrorKind::Conflict => (Exit::Conflict, None),
            ErrorKind::PreconditionFailed => (Exit::Conflict, Some("Read it again and retry")),
            ErrorKind::Unauthorized => (
                Exit::Unauthorized,
                Some("Check the policy and key of the connection string, and this machine's clock"),
            ),
            ErrorKind::DeviceOffline => {
                (Exit::DeviceUnavailable, Some("`ostler doctor DEVICE` tells why it is offline"))
            }
            ErrorKind::DeviceTimeout => (Exit::DeviceUnavailable, Some("A longer --timeout may help")),
            ErrorKind::Busy => (Exit::Unreachable, Some("The hub is overloaded; try again later")),
            ErrorKind::Unreachable if error.is_untrusted_certificate() => (
                Exit::Unreachable,
                Some("Pass the hub's CA with --ca FILE; `ostler ca` on the hub's machine prints it"),
            ),
            ErrorKind::Unreachable | ErrorKind::Timeout => {
                (Exit::Unreachable, Some("`ostler doctor` checks the way to the hub"))
            }
            ErrorKind::Setup => (Exit::Usage, None),
            _ => (Exit::Failed, None),
        };
        let message = match &error {
            // The SDK's text speaks of what a program can do; here there is --ca.
            Error::Connect { authority, source } if error.is_untrusted_certificate() => {
                format!("cannot connect to {authority}: {}", root_cause(source.as_ref()))
            }
            _ => with_root_cause(&error),
        };
        Self::Told {
            exit,
            message,
            advice: advice.map(str::to_owned),
            code: error.fault().and_then(|fault| fault.name.clone()),
        }
    }
}

/// The error and its innermost cause: what lies between says only which layer handed it on.
pub fn with_root_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", root_cause(source)),
        None => error.to_string(),
    }
}

fn root_cause<'a>(mut error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

/// The error and what caused it, each once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_lists_every_code() {
        for exit in [
            Exit::Failed,
            Exit::Usage,
            Exit::NotFound,
            Exit::Conflict,
            Exit::Unauthorized,
            Exit::Unreachable,
            Exit::DeviceUnavailable,
            Exit::DeviceRefused,
        ] {
            assert!(EXIT_CODES.contains(&format!("\n  {}  ", exit as u8)), "{exit:?}");
        }
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(matches!(Failure::from(closed()), Failure::OutputClosed));
        assert!(matches!(Failure::from(serde_json::Error::io(closed())), Failure::OutputClosed));
    }
}
