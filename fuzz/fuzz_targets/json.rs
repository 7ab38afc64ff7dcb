//! JSON: whatever is read is written so that it reads the same, and the checked text agrees with the built
//! value.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ostler_core::json::{Raw, Value};

fuzz_target!(|data: &[u8]| {
    let raw = Raw::parse(data);
    let Ok(value) = Value::parse(data) else {
        assert!(raw.is_err(), "checked, but cannot be built");
        return;
    };
    let raw = raw.expect("built, but does not pass the check");
    assert_eq!(raw.value().as_ref(), Ok(&value));
    assert_eq!(raw.is_null(), value.is_null());
    assert_eq!(raw.as_string().as_deref(), value.as_str());
    assert_eq!(raw.as_i64(), value.as_i64());

    let mut text = Vec::new();
    value.write_to(&mut text);
    assert_eq!(Value::parse(&text).as_ref(), Ok(&value));
    let mut again = Vec::new();
    Raw::parse(&text).expect("printed by us").value().expect("checked").write_to(&mut again);
    assert_eq!(again, text);

    match &value {
        Value::Object(object) => {
            let members = raw.members().expect("an object");
            assert_eq!(members.len(), object.len());
            for ((key, member), (name, value)) in members.iter().zip(object.iter()) {
                assert_eq!((&**key, &member.value()), (&**name, &Ok(value.clone())));
                assert_eq!(object.get(name), Some(value));
            }
        }
        Value::Array(elements) => {
            let raw = raw.elements().expect("an array");
            assert!(raw.iter().map(|element| element.value()).eq(elements.iter().cloned().map(Ok)));
        }
        _ => assert!(raw.members().is_none() && raw.elements().is_none()),
    }
});
