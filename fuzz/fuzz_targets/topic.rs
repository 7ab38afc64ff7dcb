//! Topics, filters, message properties and usernames: whatever is accepted means the same once it is written
//! again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ostler_core::id::EntityId;
use ostler_wire::mqtt::packet::TopicName;
use ostler_wire::topic::{filter, parse_filter, print_properties, Bag, DeviceRequest, HubMessage};
use ostler_wire::username;

fuzz_target!(|text: &str| {
    for entity in ["pump-7", "pump-7/valve"] {
        let entity = EntityId::parse(entity).expect("a valid id");
        if let Ok(request) = DeviceRequest::parse(text, &entity) {
            let again = spell(&request.of(&entity));
            assert_eq!(DeviceRequest::parse(&again, &entity), Ok(request), "{again}");
        }
        if let Ok(message) = HubMessage::parse(text, &entity) {
            let again = spell(&message.of(&entity));
            assert_eq!(HubMessage::parse(&again, &entity), Ok(message), "{again}");
        }
        if let Some(interest) = parse_filter(text, &entity) {
            let again = filter(interest, &entity).expect("it has just been asked for");
            assert_eq!(parse_filter(&again, &entity), Some(interest));
        }
    }
    check_bag(text);
    if let Ok(username) = username::parse(text) {
        assert!(text.starts_with(username.host) && text.contains(username.entity));
        let again = username.to_string();
        assert_eq!(username::parse(&again), Ok(username), "{again}");
    }
});

fn spell(topic: &impl TopicName) -> String {
    let mut out = Vec::new();
    topic.write(&mut out);
    String::from_utf8(out).expect("topics are text")
}

fn check_bag(text: &str) {
    let bag = Bag::from_encoded(text);
    let found: Vec<_> = bag.iter().collect();
    let mut again = String::new();
    print_properties(found.iter().map(|property| (&*property.key, property.value.as_deref())), &mut again);
    let reread: Vec<_> = Bag::from_encoded(&again).iter().collect();
    assert_eq!(reread, found, "{again}");

    let properties = bag.properties();
    assert!(properties.size() <= text.len());
    // Each look-up reads the whole bag.
    for property in found.iter().take(8) {
        let side = if property.is_system() { &properties.system } else { &properties.application };
        assert_eq!(bag.get(&property.key).as_ref(), side.get(&property.key));
    }
}
