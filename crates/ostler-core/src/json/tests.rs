//! Behaviour of the JSON reader and printer.

use super::*;
use proptest::prelude::*;

fn round_trip(text: &str) {
    let value = Value::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(value.to_string(), text);
    assert_eq!(Raw::parse(text.as_bytes()).unwrap().text(), text.as_bytes());
}

#[test]
fn keeps_numbers_and_order() {
    for text in [
        "0",
        "-0",
        "1.0",
        "1.10",
        "1e5",
        "1E+5",
        "-1.5e-7",
        "9007199254740993",
        "9223372036854775807",
        "9223372036854775808",
        "123456789012345678901234567890",
        r#"{"z":1,"a":{"b":[],"A":{}},"m":[1,"x",null,true,false]}"#,
        r#""é€😀\"\\\n\u0001""#,
    ] {
        round_trip(text);
    }
}

#[test]
fn refuses_what_is_not_json() {
    let check = |text: &[u8], kind: ErrorKind| {
        assert_eq!(
            Value::parse(text).map_err(|e| e.kind),
            Err(kind.clone()),
            "{}",
            String::from_utf8_lossy(text)
        );
        assert_eq!(Raw::parse(text).map_err(|e| e.kind), Err(kind), "{}", String::from_utf8_lossy(text));
    };
    check(b"", ErrorKind::UnexpectedEnd);
    check(b"{\"a\":", ErrorKind::UnexpectedEnd);
    check(b"\"abc", ErrorKind::UnexpectedEnd);
    check(b"[1,]", ErrorKind::Expected("a value"));
    check(b"[1 2]", ErrorKind::Expected("',' or ']'"));
    check(b"{a:1}", ErrorKind::Expected("a member's name in quotes"));
    check(b"{\"a\" 1}", ErrorKind::Expected("':'"));
    check(b"1 2", ErrorKind::Trailing);
    check(b"nul ", ErrorKind::Expected("a value"));
    check(b"NaN", ErrorKind::Expected("a value"));
    for number in ["01", "-", "1.", ".5", "1e", "1e+", "+1", "--1"] {
        assert!(Value::parse(number.as_bytes()).is_err(), "{number}");
    }
    check(b"\"a\nb\"", ErrorKind::ControlCharacter);
    check(br#""\x""#, ErrorKind::Escape);
    check(br#""\ud800""#, ErrorKind::Escape);
    check(br#""\udc00""#, ErrorKind::Escape);
    check(b"\"\xff\"", ErrorKind::Utf8);
    check("[".repeat(1_000_000).as_bytes(), ErrorKind::TooDeep);
    check("{\"a\":".repeat(65).as_bytes(), ErrorKind::TooDeep);
}

#[test]
fn last_of_repeated_keys_wins_in_the_first_place() {
    assert_eq!(Value::parse(br#"{"a":1,"b":2,"a":3}"#).unwrap().to_string(), r#"{"a":3,"b":2}"#);
    let many: String = (0..100).map(|i| format!("\"k{}\":{i},", i % 50)).collect();
    let object = Object::parse(format!("{{{}}}", many.trim_end_matches(',')).as_bytes()).unwrap();
    assert_eq!((object.len(), object.get("k7").and_then(Value::as_i64)), (50, Some(57)));
}

#[test]
fn raw_members_are_slices() {
    let raw =
        Raw::parse(br#" { "methodName" : "re\u0062oot", "payload": {"a": [1, 2]} , "x":null} "#).unwrap();
    let members = raw.members().unwrap();
    let text: Vec<_> =
        members.iter().map(|(k, v)| (k.as_ref(), std::str::from_utf8(v.text()).unwrap())).collect();
    assert_eq!(text, [("methodName", r#""re\u0062oot""#), ("payload", r#"{"a": [1, 2]}"#), ("x", "null")]);
    assert_eq!(members[0].1.as_string().unwrap(), "reboot");
    let elements = Raw::parse(b"[1, [2], {}]").unwrap().elements().unwrap();
    assert_eq!(elements.iter().map(|raw| raw.text().len()).collect::<Vec<_>>(), [1, 3, 2]);
}

/// Any JSON value of bounded size.
pub(crate) fn any_value() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(|f| format!("{f:e}")),
        (any::<i32>(), 0u32..1000).prop_map(|(a, b)| format!("{a}.{b:03}")),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        number.prop_filter_map("grammar", |text| Number::parse(&text).map(Value::Number)),
        any::<String>().prop_map(|text| Value::String(text.into())),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::vec(("[a-c]{0,2}|\\PC{0,6}", inner), 0..20)
                .prop_map(|members| Value::Object(members.into_iter().map(|(k, v)| (k.into(), v)).collect())),
        ]
    })
}

proptest! {
    #[test]
    fn print_then_parse(value in any_value()) {
        let text = value.to_string();
        prop_assert_eq!(Value::parse(text.as_bytes()).unwrap(), value);
        prop_assert_eq!(Raw::parse(text.as_bytes()).unwrap().text(), text.as_bytes());
    }

    #[test]
    fn reading_and_checking_agree(text in any::<Vec<u8>>()) {
        prop_assert_eq!(Value::parse(&text).map(drop), Raw::parse(&text).map(drop));
    }

    #[test]
    fn mutated_text_never_panics(value in any_value(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut text = value.to_string().into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        prop_assert_eq!(Value::parse(&text).map(drop), Raw::parse(&text).map(drop));
        if let Ok(raw) = Raw::parse(&text) {
            raw.members();
            raw.elements();
        }
    }
}
