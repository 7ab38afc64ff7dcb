//! The limits that clients and users rely on, in one place (device §5.1, §12; service §5, §8.4, §9).
//!
//! Limits of a door (packet sizes, queue lengths) live with that door; these hold for the product.

/// Bytes of a device or module id.
pub const ID_BYTES: usize = 128;
/// Characters of a status reason (service §5.3).
pub const STATUS_REASON_CHARS: usize = 128;
/// Modules of one device (service §5.5).
pub const MODULES_PER_DEVICE: usize = 50;
/// Devices and modules of one hub; Azure allows 1,000,000, we leave room.
pub const IDENTITIES: usize = 20_000_000;
/// Entries of one bulk request (service §6.1).
pub const BULK_ENTRIES: usize = 100;
/// Decoded bytes of a symmetric key: fewest and most (service §5.4).
pub const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

/// Levels of objects in a twin section, counted from the section's own properties.
pub const TWIN_DEPTH: usize = 10;
/// UTF-8 bytes of a twin key.
pub const TWIN_KEY_BYTES: usize = 1024;
/// UTF-8 bytes of a string value in a twin.
pub const TWIN_STRING_BYTES: usize = 4096;
/// Largest integer magnitude in a twin: values run from `-2^52` to `2^52 - 1`.
pub const TWIN_INTEGER: i64 = 1 << 52;
/// Counted size of the tags (the rule is at [`crate::twin::Section::size`]).
pub const TAGS_BYTES: usize = 8 * 1024;
/// Counted size of the desired properties.
pub const DESIRED_BYTES: usize = 32 * 1024;
/// Counted size of the reported properties.
pub const REPORTED_BYTES: usize = 32 * 1024;

/// Bytes of a method's payload, each way.
pub const METHOD_PAYLOAD_BYTES: usize = 128 * 1024;
/// Characters of a method's name.
pub const METHOD_NAME_CHARS: usize = 100;
/// Seconds to wait for a method's answer: fewest and most.
pub const METHOD_RESPONSE_SECS: std::ops::RangeInclusive<u64> = 5..=300;
/// Seconds to wait for a method's answer when the caller names none.
pub const METHOD_RESPONSE_SECS_DEFAULT: u64 = 30;
/// Most seconds to wait for a device to connect.
pub const METHOD_CONNECT_SECS: u64 = 300;
/// Method calls in flight towards one device or module.
pub const METHODS_IN_FLIGHT_PER_ENTITY: usize = 1024;

/// Bytes of one telemetry message, counted as in device §3.7.
pub const TELEMETRY_BYTES: usize = 256 * 1024;

/// Bytes of one cloud-to-device message, counted as in device §3.7.
pub const MESSAGE_BYTES: usize = 64 * 1024;
/// Of these, bytes of properties: percent-encoded, three times as many fit an MQTT topic beside the ids.
pub const MESSAGE_PROPERTY_BYTES: usize = 16 * 1024;
/// Properties of one cloud-to-device message that the sender made up.
pub const MESSAGE_PROPERTIES: usize = 256;
/// Characters of a message's id (device §3.3).
pub const MESSAGE_ID_CHARS: usize = 128;
/// Messages that wait for one device (device §3.4).
pub const MESSAGES_PER_DEVICE: usize = 50;
/// Messages that wait for all devices of a hub.
pub const MESSAGES: usize = 1_000_000;
/// Seconds that a message may wait, at most (device §3.4).
pub const MESSAGE_TTL_SECS: i64 = 2 * 24 * 3600;
/// Seconds that a message waits when neither sender nor operator says otherwise (device §3.4).
pub const MESSAGE_TTL_SECS_DEFAULT: i64 = 3600;
/// Times that a message is handed out when the operator does not say (device §3.4).
pub const MESSAGE_DELIVERIES_DEFAULT: u32 = 10;
/// Times that a message may be handed out: fewest and most (device §12).
pub const MESSAGE_DELIVERIES: std::ops::RangeInclusive<u32> = 1..=100;
/// Messages that a connection may hold without having confirmed them.
pub const MESSAGES_IN_FLIGHT_PER_CONNECTION: usize = 8;
/// Seconds for which a message is lent to a device that asks for one (device §8.1).
pub const MESSAGE_LEASE_SECS: i64 = 60;
/// Outcomes in one batch of feedback (device §3.6).
pub const FEEDBACK_BATCH: usize = 64;
/// Outcomes that wait for whoever reads feedback; later ones are not told.
pub const FEEDBACK_RECORDS: usize = 100_000;
/// Seconds that a receiver may hold a batch of feedback (service §12.3).
pub const FEEDBACK_LOCK_SECS: i64 = 60;
/// Seconds that an outcome waits to be read (service §12.2).
pub const FEEDBACK_TTL_SECS: i64 = 3600;
/// Times that an outcome is handed out (service §12.2).
pub const FEEDBACK_DELIVERIES: u32 = 100;

/// Shared access policies of one hub (service §2.1).
pub const POLICIES: usize = 16;
/// CA certificates registered for device certificates (device §1.5).
pub const CERTIFICATE_AUTHORITIES: usize = 25;

/// Automatic configurations of one hub (service §11.4).
pub const CONFIGURATIONS: usize = 100;
/// Bytes of a configuration's id (service §11.2).
pub const CONFIGURATION_ID_BYTES: usize = 128;
/// Custom metrics of one configuration (service §11.2).
pub const CONFIGURATION_METRICS: usize = 5;
/// Labels of one configuration.
pub const CONFIGURATION_LABELS: usize = 64;
/// Twin paths that one configuration's content may set, all modules together.
pub const CONFIGURATION_PATHS: usize = 256;

/// Characters of a job's id (service §10.2).
pub const JOB_ID_CHARS: usize = 64;
/// Characters of a job's condition; a longer one fails the job (service §10.2).
pub const JOB_CONDITION_CHARS: usize = 8192;
/// Bytes of a condition that are taken in at all.
pub const JOB_CONDITION_BYTES: usize = 256 * 1024;
/// Jobs that have not ended: waiting, running or paused.
pub const JOBS_ACTIVE: usize = 10_000;
/// Seconds that a device has for its step when the job does not say (service §10.2).
pub const JOB_EXECUTION_SECS_DEFAULT: u64 = 3600;
/// Most seconds that a device may have for its step: one year.
pub const JOB_EXECUTION_SECS: u64 = 366 * 24 * 3600;
/// Waves of one job.
pub const JOB_WAVES: usize = 1000;
/// Tries of a job's step on one device.
pub const JOB_ATTEMPTS: u32 = 100;
/// Most seconds between two tries, and most of the soak time between two waves: 30 days.
pub const JOB_PAUSE_SECS: u32 = 30 * 24 * 3600;
/// Days for which an ended job is kept when the operator does not say (service §10.5).
pub const JOB_RETENTION_DAYS: u64 = 30;

/// Levels of nesting accepted in any JSON document from outside.
pub const JSON_DEPTH: usize = 64;

/// Characters of a query or condition (query §8).
pub const QUERY_CHARS: usize = 8192;
/// Levels of an expression.
pub const QUERY_DEPTH: usize = 64;
/// Groups of one query.
pub const QUERY_GROUPS: usize = 100_000;
/// Bytes of the values that one query groups by.
pub const QUERY_GROUP_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of a file's name together with its device's id and the `/` between them; Azure allows as many characters.
pub const FILE_KEY_BYTES: usize = 1024;
/// File uploads of one device that have begun and not ended (device §12).
pub const UPLOADS_PER_DEVICE: usize = 10;
/// File uploads of all devices that have begun and not ended.
pub const UPLOADS: usize = 100_000;
/// Files of all devices.
pub const FILES: u64 = 1_000_000;
/// Blocks of one file, as Azure's storage has it.
pub const FILE_BLOCKS: usize = 50_000;
/// Decoded bytes of a block's id, as Azure's storage has it.
pub const FILE_BLOCK_ID_BYTES: usize = 64;
