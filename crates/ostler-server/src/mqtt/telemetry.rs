//! Device-to-cloud messages: how large they are, and what a watcher is shown of them.

use ostler_core::limits::TELEMETRY_BYTES;
use ostler_hub::events::Telemetry;
use ostler_wire::mqtt::server::OwnedWill;
use ostler_wire::topic::Bag;

/// Application property of a message that was sent with the retain flag (device §2.8).
const RETAIN: &str = "mqtt-retain";
/// Application property that marks a will (device §2.7).
const MESSAGE_TYPE: &str = "iothub-MessageType";

/// Whether a message is within the limit: body, values of system properties, names and values of
/// the others (device §3.7).
pub(super) fn fits(bag: Bag<'_>, payload: &[u8]) -> bool {
    // Decoding never makes text longer, so most messages need no second look.
    payload.len() + bag.as_str().len() <= TELEMETRY_BYTES
        || payload.len() + bag.properties().size() <= TELEMETRY_BYTES
}

/// A message as watchers see it.
pub(super) fn describe(bag: Bag<'_>, payload: &[u8], retain: bool) -> Telemetry {
    let mut telemetry = Telemetry { body: payload.to_vec(), ..Telemetry::default() };
    for property in bag.iter() {
        let value = property.value.as_deref().map(str::to_owned);
        let (side, name) = match property.system_name() {
            Some(name) => (&mut telemetry.system, name),
            None if property.is_system() => (&mut telemetry.system, &*property.key),
            None => (&mut telemetry.application, &*property.key),
        };
        // Of several with one name the last counts (device §3.2).
        match side.iter_mut().find(|(known, _)| known == name) {
            Some(known) => known.1 = value,
            None => side.push((name.to_owned(), value)),
        }
    }
    if retain {
        telemetry.application.push((RETAIN.to_owned(), Some("true".to_owned())));
    }
    telemetry
}

/// A will as watchers see it.
pub(super) fn describe_will(bag: Bag<'_>, will: &OwnedWill) -> Telemetry {
    let mut telemetry = describe(bag, &will.payload, will.retain);
    telemetry.application.push((MESSAGE_TYPE.to_owned(), Some("Will".to_owned())));
    telemetry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_go_to_their_side_and_the_last_counts() {
        let bag = Bag::from_encoded("%24.mid=1&k%20e=v&%24.mid=2&%24.odd=x&flag");
        let telemetry = describe(bag, b"body", true);
        let text = |side: &[(String, Option<String>)]| {
            side.iter().map(|(k, v)| format!("{k}={}", v.as_deref().unwrap_or("-"))).collect::<Vec<_>>()
        };
        assert_eq!(text(&telemetry.system), ["message-id=2", "$.odd=x"]);
        assert_eq!(text(&telemetry.application), ["k e=v", "flag=-", "mqtt-retain=true"]);
        assert_eq!(telemetry.body, b"body");
    }

    #[test]
    fn the_limit_counts_decoded_text() {
        let body = vec![0; TELEMETRY_BYTES - 4];
        assert!(fits(Bag::from_encoded("k=abc"), &body));
        assert!(fits(Bag::from_encoded("%6B=%61%62%63"), &body));
        assert!(!fits(Bag::from_encoded("k=abcd"), &body));
    }
}
