//! What a subscription stands for.

use ostler_core::id::EntityId;
use ostler_core::record::Interest;

use super::Owner;

const METHODS: &str = "$iothub/methods/POST/#";
const TWIN_ANSWERS: &str = "$iothub/twin/res/#";
const DESIRED_CHANGES: &str = "$iothub/twin/PATCH/properties/desired/#";

/// What a filter asks for on the connection of `entity`; `None` if it may not be subscribed to there (device
/// §2.9). Filters are compared, never matched: a wildcard cannot reach anything that is not listed.
pub fn parse_filter(filter: &str, entity: &EntityId) -> Option<Interest> {
    match filter {
        METHODS => return Some(Interest::Methods),
        TWIN_ANSWERS => return Some(Interest::TwinAnswers),
        DESIRED_CHANGES => return Some(Interest::DesiredChanges),
        _ => {}
    }
    let owner = Owner::from(entity);
    match (owner.module, owner.strip(filter).ok()?) {
        // Some hand-written clients leave out the tail.
        (None, "messages/devicebound/#" | "messages/devicebound/" | "messages/devicebound") => {
            Some(Interest::Messages)
        }
        // The C and .NET devices ask for everything below the module.
        (Some(_), "inputs/#" | "#") => Some(Interest::Inputs),
        _ => None,
    }
}

/// The filter by which `entity` asks for something; `None` if there is no such thing for a device, or for a
/// module.
pub fn filter(interest: Interest, entity: &EntityId) -> Option<String> {
    let under = |tail| {
        let mut filter = String::from("devices/");
        let Owner { device, module } = Owner::from(entity);
        filter.push_str(device);
        if let Some(module) = module {
            filter.extend(["/modules/", module]);
        }
        filter + tail
    };
    match (interest, entity.is_module()) {
        (Interest::Methods, _) => Some(METHODS.to_owned()),
        (Interest::TwinAnswers, _) => Some(TWIN_ANSWERS.to_owned()),
        (Interest::DesiredChanges, _) => Some(DESIRED_CHANGES.to_owned()),
        (Interest::Messages, false) => Some(under("/messages/devicebound/#")),
        (Interest::Inputs, true) => Some(under("/inputs/#")),
        (Interest::Messages, true) | (Interest::Inputs, false) => None,
    }
}
