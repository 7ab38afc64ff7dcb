//! Values that several tests of this folder start from.

use super::identity::read_identity;
use ostler_core::id::EntityId;
use ostler_core::identity::{FreshSecrets, Identity};
use ostler_core::record::Record;
use ostler_core::time::Timestamp;

pub(super) const NOW: Timestamp = Timestamp::from_unix_secs(1_714_557_600);

/// The record of a new device or module, made from the body of a PUT.
pub(super) fn record(id: &str, body: &str) -> Record {
    let id = EntityId::parse(id).unwrap();
    let spec = read_identity(&id, body.as_bytes()).unwrap();
    let fresh = FreshSecrets { primary: [1; 32], secondary: [2; 32], etag_start: 7 };
    Record::new(id, Identity::create(spec, &fresh, NOW).unwrap())
}
