//! The service's error codes and the two bodies in which it says them (service §3).
//!
//! Must not know what went wrong inside the hub: the server maps its errors to a code and a text; this file spells them.
//!
//! Invariant: a code's first three digits are its HTTP status.
//! Invariant: what [`ErrorBody::write`] writes, [`ErrorReport::parse`] reads back.

use super::fields::Fields;
use ostler_core::json::{write_string, ObjectWriter, Raw};
use ostler_core::time::Timestamp;
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// The header that carries the code's name on every error (service §3.1).
pub const ERROR_CODE_HEADER: &str = "iothub-errorcode";
/// A second spelling of [`ERROR_CODE_HEADER`], which one client wants to see on a bulk failure before it reads the
/// answer's body (service §3.2).
pub const BULK_ERROR_CODE_HEADER: &str = "IotHubErrorCode";

macro_rules! error_codes {
    ($($number:literal $name:ident,)*) => {
        /// A code of the service's table (service §3.3). `BadDeviceResponse` has no number there; a client has a class
        /// for its status and name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        #[allow(missing_docs, reason = "the names are the documentation; they are the service's own")]
        pub enum ErrorCode {
            $($name = $number,)*
        }

        impl ErrorCode {
            /// Every code, in ascending order of its number.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)*];

            /// The name as clients compare it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(ErrorCode::$name => stringify!($name),)*
                }
            }
        }

        impl TryFrom<u32> for ErrorCode {
            type Error = UnknownErrorCode;

            fn try_from(number: u32) -> Result<ErrorCode, UnknownErrorCode> {
                match number {
                    $($number => Ok(ErrorCode::$name),)*
                    _ => Err(UnknownErrorCode),
                }
            }
        }

        impl TryFrom<&str> for ErrorCode {
            type Error = UnknownErrorCode;

            fn try_from(name: &str) -> Result<ErrorCode, UnknownErrorCode> {
                match name {
                    $(stringify!($name) => Ok(ErrorCode::$name),)*
                    _ => Err(UnknownErrorCode),
                }
            }
        }
    };
}

error_codes! {
    400000 GenericBadRequest,
    400001 InvalidProtocolVersion,
    400002 DeviceInvalidResultCount,
    400003 InvalidOperation,
    400004 ArgumentInvalid,
    400005 ArgumentNull,
    400006 IotHubFormatError,
    400007 DeviceStorageEntitySerializationError,
    400008 BlobContainerValidationError,
    400009 ImportWarningExistsError,
    400010 InvalidSchemaVersion,
    400011 DeviceDefinedMultipleTimes,
    400012 DeserializationError,
    400013 BulkRegistryOperationFailure,
    400014 DefaultStorageEndpointNotConfigured,
    400015 InvalidFileUploadCorrelationId,
    400016 ExpiredFileUploadCorrelationId,
    400017 InvalidStorageEndpoint,
    400018 InvalidMessagingEndpoint,
    400019 InvalidFileUploadCompletionStatus,
    400020 InvalidStorageEndpointOrBlob,
    400021 RequestCanceled,
    400022 InvalidStorageEndpointProperty,
    400023 EtagDoesNotMatch,
    400024 RequestTimedOut,
    400025 UnsupportedOperationOnReplica,
    400026 NullMessage,
    400027 ConnectionForcefullyClosedOnNewConnection,
    400028 InvalidDeviceScope,
    400029 ConnectionForcefullyClosedOnFaultInjection,
    400030 ConnectionRejectedOnFaultInjection,
    400031 InvalidEndpointAuthenticationType,
    400032 ManagedIdentityNotEnabled,
    400035 InvalidPolicyKey,
    400036 BulkRegenerateDeviceKeyOperationFailure,
    400100 InvalidRouteTestInput,
    400101 InvalidSourceOnRoute,
    400102 RoutingNotEnabled,
    400103 InvalidContentEncodingOrType,
    400301 CannotRegisterModuleToModule,
    400401 InvalidConfigurationTargetCondition,
    400402 InvalidConfigurationContent,
    400403 CannotModifyImmutableConfigurationContent,
    400404 InvalidConfigurationCustomMetricsQuery,
    400501 InvalidPnPInterfaceDefinition,
    400502 InvalidPnPDesiredProperties,
    400503 InvalidPnPReportedProperties,
    400504 InvalidPnPWritableReportedProperties,
    400505 InvalidDigitalTwinJsonPatch,
    400506 InvalidDigitalTwinPayload,
    400507 InvalidDigitalTwinPatch,
    400508 InvalidDigitalTwinPatchPath,
    401000 GenericUnauthorized,
    401001 IotHubNotFound,
    401002 IotHubUnauthorizedAccess,
    401003 IotHubUnauthorized,
    401004 ElasticPoolNotFound,
    401100 SystemModuleModifyUnauthorizedAccess,
    403000 GenericForbidden,
    403001 IotHubSuspended,
    403002 IotHubQuotaExceeded,
    403003 JobQuotaExceeded,
    403004 DeviceMaximumQueueDepthExceeded,
    403005 IotHubMaxCbsTokenExceeded,
    403006 DeviceMaximumActiveFileUploadLimitExceeded,
    403007 DeviceMaximumQueueSizeExceeded,
    403008 RoutingEndpointResponseForbidden,
    403009 InvalidMessageExpiryTime,
    403010 OperationNotAvailableInCurrentTier,
    403011 KeyEncryptionKeyRevoked,
    403012 DeviceDisabled,
    403800 DeviceMaximumInflightMethodExceeded,
    404000 GenericNotFound,
    404001 DeviceNotFound,
    404002 JobNotFound,
    404004 QuotaMetricNotFound,
    404005 SystemPropertyNotFound,
    404006 AmqpAddressNotFound,
    404008 CertificateNotFound,
    404010 ModuleNotFound,
    404012 IotHubFailingOver,
    404013 FeatureNotSupported,
    404014 DigitalTwinInterfaceNotFound,
    404101 QueryStoreClusterNotFound,
    404103 DeviceNotOnline,
    404104 DeviceConnectionClosedRemotely,
    404301 ConfigurationNotFound,
    404302 GroupNotFound,
    405102 OperationNotAllowedInCurrentState,
    405103 ImportDevicesNotSupported,
    405104 BulkAddDevicesNotSupported,
    409001 DeviceAlreadyExists,
    409002 LinkCreationConflict,
    409003 CallbackSubscriptionConflict,
    409101 ModelAlreadyExists,
    409102 DeviceLocked,
    409103 DeviceJobAlreadyExists,
    409104 JobAlreadyExists,
    409301 ModuleAlreadyExistsOnDevice,
    409401 ConfigurationAlreadyExists,
    409402 ApplyConfigurationAlreadyInProgressOnDevice,
    412001 PreconditionFailed,
    412002 DeviceMessageLockLost,
    412003 JobRunPreconditionFailed,
    412004 InflightMessagesInLink,
    413001 MessageTooLarge,
    413002 TooManyDevices,
    413003 TooManyModulesOnDevice,
    413101 ConfigurationCountLimitExceeded,
    415000 GenericUnsupportedMediaType,
    429000 GenericTooManyRequests,
    429001 ThrottlingException,
    429002 ThrottleBacklogLimitExceeded,
    429003 ThrottlingBacklogTimeout,
    429004 ThrottlingMaxActiveJobCountExceeded,
    429005 DeviceThrottlingLimitExceeded,
    499000 ClientClosedRequest,
    500001 ServerError,
    500002 JobCancelled,
    500008 GenericTimeout,
    502000 BadDeviceResponse,
    503001 ServiceUnavailable,
    503003 PartitionNotFound,
    503004 IotHubActivationFailed,
    503005 ServerBusy,
    503006 IotHubRestoring,
    504000 GenericGatewayTimeout,
    504101 GatewayTimeout,
}

impl ErrorCode {
    /// The number, as Form B carries it.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The HTTP status that goes with the code.
    pub const fn status(self) -> u16 {
        (self as u32 / 1000) as u16
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A number or a name that is not in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a code of the service's error table")]
pub struct UnknownErrorCode;

/// Which of the two bodies an error has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorForm {
    /// `Message` is `ErrorCode:<Name>;<text>`. One client tells a missing device from any other 404 by this text alone
    /// (service §3.2), so everything except methods answers so.
    A,
    /// `Message` is a JSON document in a string, with the code as a number. Direct methods answer so.
    B,
}

/// What names one failed request in answers and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackingId {
    /// Drawn at random by whoever answers.
    pub id: u128,
    /// When the error was made.
    pub at: Timestamp,
}

impl fmt::Display for TrackingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}-G:0-TimeStamp:{}", self.id, self.at)
    }
}

/// One error as it goes to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorBody<'a> {
    /// The code.
    pub code: ErrorCode,
    /// What the caller may know of the cause.
    pub text: Cow<'a, str>,
    /// How long the hub waited before it gave up; Form B has a place for it (service §9).
    pub waited: Option<Duration>,
}

impl ErrorBody<'_> {
    /// Appends the body.
    pub fn write(&self, form: ErrorForm, tracking: TrackingId, out: &mut Vec<u8>) {
        match form {
            ErrorForm::A => self.write_form_a(tracking, out),
            ErrorForm::B => self.write_form_b(tracking, out),
        }
    }

    fn write_form_a(&self, tracking: TrackingId, out: &mut Vec<u8>) {
        let mut body = ObjectWriter::new(out);
        body.string("Message", &format!("ErrorCode:{};{}", self.code, self.text));
        body.string("ExceptionMessage", &format!("Tracking ID:{tracking}"));
        body.end();
    }

    fn write_form_b(&self, tracking: TrackingId, out: &mut Vec<u8>) {
        let mut inner = Vec::with_capacity(256);
        let mut message = ObjectWriter::new(&mut inner);
        message.count("errorCode", self.code.number().into());
        message.string("trackingId", &tracking.to_string());
        message.string("message", &self.text);
        let mut info = message.object("info");
        if let Some(waited) = self.waited {
            let secs = waited.as_secs();
            info.string("timeout", &format!("{:02}:{:02}:{:02}", secs / 3600, secs / 60 % 60, secs % 60));
        }
        info.end();
        message.time("timestampUtc", tracking.at);
        message.end();

        let mut body = ObjectWriter::new(out);
        write_string(&String::from_utf8_lossy(&inner), body.key("Message"));
        body.string("ExceptionMessage", "");
        body.end();
    }
}

/// An error as a client reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorReport {
    /// The code, when the body names one of the table.
    pub code: Option<ErrorCode>,
    /// The number that the body carries, in the table or not; Form A has none.
    pub number: Option<u32>,
    /// The text without its code prefix.
    pub message: String,
    /// The tracking id, when there is one.
    pub tracking_id: Option<String>,
}

impl ErrorReport {
    /// Reads either form; `None` for a body that is neither.
    pub fn parse(body: &[u8]) -> Option<ErrorReport> {
        let outer = Fields::of(Raw::parse(body).ok()?)?;
        if outer.get("errorCode").is_some() {
            return ErrorReport::from_form_b(&outer);
        }
        let message = text_of(&outer, "Message")?;
        if let Some(inner) = Raw::parse(message.as_bytes()).ok().and_then(Fields::of) {
            return ErrorReport::from_form_b(&inner);
        }
        let tracking_id = text_of(&outer, "ExceptionMessage").and_then(|text| {
            let id = text.strip_prefix("Tracking ID:")?;
            Some(id.split("-TimeStamp:").next().unwrap_or(id).to_owned())
        });
        let (code, message) = match message.strip_prefix("ErrorCode:").and_then(|rest| rest.split_once(';')) {
            Some((name, text)) => (ErrorCode::try_from(name).ok(), text.to_owned()),
            None => (None, message.into_owned()),
        };
        Some(ErrorReport { code, number: None, message, tracking_id })
    }

    fn from_form_b(fields: &Fields<'_>) -> Option<ErrorReport> {
        let number = u32::try_from(fields.get("errorCode")?.as_i64()?).ok();
        let tracking_id = text_of(fields, "trackingId");
        Some(ErrorReport {
            code: number.and_then(|number| ErrorCode::try_from(number).ok()),
            number,
            message: text_of(fields, "message").unwrap_or_default().into_owned(),
            tracking_id: tracking_id.map(|id| id.split("-TimeStamp:").next().unwrap_or(&id).to_owned()),
        })
    }
}

fn text_of<'a>(fields: &Fields<'a>, name: &str) -> Option<Cow<'a, str>> {
    fields.string(name).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRACKING: TrackingId = TrackingId {
        id: 0x0a1b_2c3d_4e5f_6071_8293_a4b5_c6d7_e8f9,
        at: Timestamp::from_unix_secs(1_620_986_553),
    };

    fn body(code: ErrorCode, text: &str, form: ErrorForm) -> String {
        let waited = (form == ErrorForm::B).then_some(Duration::from_secs(30));
        let mut out = Vec::new();
        ErrorBody { code, text: text.into(), waited }.write(form, TRACKING, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_names_and_statuses_belong_together() {
        for pair in ErrorCode::ALL.windows(2) {
            assert!(pair[0].number() < pair[1].number(), "{pair:?} out of order");
        }
        for code in ErrorCode::ALL.iter().copied() {
            assert_eq!(ErrorCode::try_from(code.number()), Ok(code));
            assert_eq!(ErrorCode::try_from(code.name()), Ok(code));
            assert!((400..600).contains(&code.status()), "{code}");
        }
        assert_eq!(ErrorCode::DeviceNotOnline.status(), 404);
        assert_eq!(ErrorCode::GatewayTimeout.number(), 504_101);
        assert_eq!(ErrorCode::try_from(404_999), Err(UnknownErrorCode));
        assert_eq!(ErrorCode::try_from("devicenotfound"), Err(UnknownErrorCode));
    }

    #[test]
    fn form_a() {
        insta::assert_snapshot!(
            body(ErrorCode::DeviceNotFound, "dev-1", ErrorForm::A),
            @r#"{"Message":"ErrorCode:DeviceNotFound;dev-1","ExceptionMessage":"Tracking ID:0a1b2c3d4e5f60718293a4b5c6d7e8f9-G:0-TimeStamp:2021-05-14T10:02:33.0000000Z"}"#
        );
    }

    #[test]
    fn form_b() {
        insta::assert_snapshot!(
            body(ErrorCode::DeviceNotOnline, "Timed out waiting for \"dev-1\" to connect.", ErrorForm::B),
            @r#"{"Message":"{\"errorCode\":404103,\"trackingId\":\"0a1b2c3d4e5f60718293a4b5c6d7e8f9-G:0-TimeStamp:2021-05-14T10:02:33.0000000Z\",\"message\":\"Timed out waiting for \\\"dev-1\\\" to connect.\",\"info\":{\"timeout\":\"00:00:30\"},\"timestampUtc\":\"2021-05-14T10:02:33.0000000Z\"}","ExceptionMessage":""}"#
        );
    }

    #[test]
    fn reads_what_others_write() {
        let cases: &[(&str, Option<ErrorCode>, &str)] = &[
            (
                r#"{"Message":"ErrorCode:ArgumentNull;BadRequest"}"#,
                Some(ErrorCode::ArgumentNull),
                "BadRequest",
            ),
            (r#"{"Message":"ErrorCode:Novel;x;y","ExceptionMessage":""}"#, None, "x;y"),
            (r#"{"Message":"just text"}"#, None, "just text"),
            (r#"{"errorCode":404103,"message":"m"}"#, Some(ErrorCode::DeviceNotOnline), "m"),
            (r#"{"Message":"{\"errorCode\":1,\"message\":\"m\"}"}"#, None, "m"),
        ];
        for (text, code, message) in cases {
            let report = ErrorReport::parse(text.as_bytes()).unwrap();
            assert_eq!((report.code, report.message.as_str()), (*code, *message), "{text}");
        }
        for text in ["", "<html>", "[]", "{}", "null", r#"{"Message":5}"#] {
            assert_eq!(ErrorReport::parse(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(pick in 0..ErrorCode::ALL.len(), text in "\\PC*", nested in any::<bool>()) {
            let (code, form) = (ErrorCode::ALL[pick], if nested { ErrorForm::B } else { ErrorForm::A });
            let report = ErrorReport::parse(body(code, &text, form).as_bytes()).unwrap();
            prop_assert_eq!(report.code, Some(code));
            prop_assert_eq!(report.message, text);
            prop_assert_eq!(report.tracking_id.unwrap(), "0a1b2c3d4e5f60718293a4b5c6d7e8f9-G:0");
        }
    }
}
