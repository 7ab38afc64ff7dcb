//! Topics, filters and message properties.

use ostler_core::id::EntityId;
use ostler_core::record::Interest;
use ostler_core::time::Timestamp;
use ostler_wire::mqtt::packet::TopicName;
use ostler_wire::topic::*;
use proptest::prelude::*;

fn device() -> EntityId {
    EntityId::parse("pump-7").unwrap()
}

fn module() -> EntityId {
    EntityId::parse("pump-7/valve").unwrap()
}

fn text(topic: &impl TopicName) -> String {
    let mut out = Vec::new();
    topic.write(&mut out);
    String::from_utf8(out).unwrap()
}

fn telemetry(bag: &str) -> DeviceRequest<'_> {
    DeviceRequest::Telemetry { bag: Bag::from_encoded(bag) }
}

#[test]
fn telemetry_topics() {
    for (tail, bag) in [
        ("", ""),
        ("/", ""),
        ("/?", ""),
        ("//", ""),
        ("/a=b", "a=b"),
        ("/a=b/", "a=b"),
        ("/?a=b/", "a=b"),
        ("/a=b//", "a=b/"),
        ("/a=/x", "a=/x"),
        ("/??", "?"),
        ("/%24.on=out/", "%24.on=out"),
    ] {
        for (entity, prefix) in [(device(), "devices/pump-7"), (module(), "devices/pump-7/modules/valve")] {
            let topic = format!("{prefix}/messages/events{tail}");
            assert_eq!(DeviceRequest::parse(&topic, &entity), Ok(telemetry(bag)), "{topic}");
        }
    }
}

#[test]
fn requests() {
    use DeviceRequest::*;
    for (topic, expected) in [
        ("$iothub/twin/GET/?$rid=17", TwinGet { rid: "17" }),
        ("$iothub/twin/GET/?x=1&$rid=a-b&y", TwinGet { rid: "a-b" }),
        ("$iothub/twin/GET/?$rid=1&$rid=2", TwinGet { rid: "1" }),
        ("$iothub/twin/GET/?$rid=%2B=", TwinGet { rid: "%2B=" }),
        ("$iothub/twin/PATCH/properties/reported/?$rid=18", ReportedPatch { rid: Some("18"), version: None }),
        (
            "$iothub/twin/PATCH/properties/reported/?$rid=18&$version=4",
            ReportedPatch { rid: Some("18"), version: Some(4) },
        ),
        (
            "$iothub/twin/PATCH/properties/reported/?$version=4&$rid=18",
            ReportedPatch { rid: Some("18"), version: Some(4) },
        ),
        ("$iothub/twin/PATCH/properties/reported/?$version=4", ReportedPatch { rid: None, version: Some(4) }),
        ("$iothub/twin/PATCH/properties/reported/?", ReportedPatch { rid: None, version: None }),
        ("$iothub/twin/PATCH/properties/reported/", ReportedPatch { rid: None, version: None }),
        ("$iothub/methods/res/202/?$rid=1f", MethodResponse { status: 202, rid: "1f" }),
        ("$iothub/methods/res/-7/?$rid=1f", MethodResponse { status: -7, rid: "1f" }),
        ("$iothub/methods/res/2147483647/?$rid=1", MethodResponse { status: i32::MAX, rid: "1" }),
    ] {
        assert_eq!(DeviceRequest::parse(topic, &device()), Ok(expected), "{topic}");
        assert_eq!(DeviceRequest::parse(topic, &module()), Ok(expected), "{topic}");
    }
}

#[test]
fn refused_topics() {
    use TopicError::*;
    for (topic, error) in [
        ("devices/pump-8/messages/events/", OtherIdentity),
        ("devices/pump-77/messages/events/", OtherIdentity),
        ("devices/pump/messages/events/", OtherIdentity),
        ("devices/PUMP-7/messages/events/", OtherIdentity),
        ("devices/pump-7/modules/valve/messages/events/", OtherIdentity),
        ("devices/pump-7", OtherIdentity),
        ("devices/", OtherIdentity),
        ("devices/pump-7/messages/eventsx", Unknown),
        ("devices/pump-7/messages/events?a=b", Unknown),
        ("devices/pump-7/messages/devicebound/", Unknown),
        ("devices/pump-7/", Unknown),
        ("Devices/pump-7/messages/events/", Unknown),
        ("telemetry", Unknown),
        ("$iothub/", Unknown),
        ("$iothub/twin/", Unknown),
        ("$iothub/twin/DELETE/?$rid=1", Unknown),
        ("$iothub/twin/GET", Unknown),
        ("$iothub/twin/GET/$rid=1", Unknown),
        ("$iothub/twin/GET/x/?$rid=1", Unknown),
        ("$iothub/twin/res/200/?$rid=1", Unknown),
        ("$iothub/twin/PATCH/properties/desired/?$rid=1", Unknown),
        ("$iothub/twin/GET/", RequestId),
        ("$iothub/twin/GET/?", RequestId),
        ("$iothub/twin/GET/?$rid=", RequestId),
        ("$iothub/twin/GET/?rid=1", RequestId),
        ("$iothub/twin/GET/?$rid=1/2", RequestId),
        ("$iothub/twin/PATCH/properties/reported/?$rid=1&$version=", Version),
        ("$iothub/twin/PATCH/properties/reported/?$rid=1&$version=x", Version),
        ("$iothub/twin/PATCH/properties/reported/?$rid=1&$version=-1", Version),
        ("$iothub/twin/PATCH/properties/reported/?$rid=1&$version=18446744073709551616", Version),
        ("$iothub/methods/res/200", Unknown),
        ("$iothub/methods/res/200/", RequestId),
        ("$iothub/methods/res/200/?$rid=", RequestId),
        ("$iothub/methods/res//?$rid=1", Status),
        ("$iothub/methods/res/2147483648/?$rid=1", Status),
        ("$iothub/methods/res/ok/?$rid=1", Status),
        ("$iothub/methods/POST/reboot/?$rid=1", Unknown),
    ] {
        assert_eq!(DeviceRequest::parse(topic, &device()), Err(error), "{topic}");
    }
    for topic in [
        "devices/pump-7/messages/events/",
        "devices/pump-7/modules/valve2/messages/events/",
        "devices/pump-7/modules/val/messages/events/",
        "devices/pump-8/modules/valve/messages/events/",
    ] {
        assert_eq!(DeviceRequest::parse(topic, &module()), Err(OtherIdentity), "{topic}");
    }
}

/// Devices take these apart by position: the spelling is exact (device §4.2, §4.4, §6).
#[test]
fn hub_topics_are_exact() {
    use HubMessage::*;
    let bag = Bag::from_encoded("%24.to=x&a=b");
    for (entity, message, topic) in [
        (device(), TwinResponse { status: 200, rid: "17", version: None }, "$iothub/twin/res/200/?$rid=17"),
        (
            device(),
            TwinResponse { status: 204, rid: "18", version: Some(15) },
            "$iothub/twin/res/204/?$rid=18&$version=15",
        ),
        (module(), DesiredChanged { version: 7 }, "$iothub/twin/PATCH/properties/desired/?$version=7"),
        (device(), MethodRequest { method: "reboot", rid: "1f" }, "$iothub/methods/POST/reboot/?$rid=1f"),
        (device(), CloudToDevice { bag }, "devices/pump-7/messages/devicebound/%24.to=x&a=b"),
        (module(), ModuleInput { input: "in", bag }, "devices/pump-7/modules/valve/inputs/in/%24.to=x&a=b"),
    ] {
        assert_eq!(text(&message.of(&entity)), topic);
        assert_eq!(HubMessage::parse(topic, &entity), Ok(message));
    }
}

#[test]
fn foreign_hub_topics() {
    use TopicError::*;
    for (topic, error) in [
        ("$iothub/twin/res/abc/?$rid=1", Status),
        ("$iothub/twin/res/200/", RequestId),
        ("$iothub/twin/res/200", Unknown),
        ("$iothub/twin/PATCH/properties/desired/", Version),
        ("$iothub/methods/POST/a/b/?$rid=1", Unknown),
        ("$iothub/methods/POST//?$rid=1", Unknown),
        ("$iothub/methods/POST/a", RequestId),
        ("$iothub/twin/GET/?$rid=1", Unknown),
        ("devices/pump-8/messages/devicebound/", OtherIdentity),
        ("devices/pump-7/messages/devicebound", Unknown),
        ("devices/pump-7/modules/valve/inputs/a/", OtherIdentity),
    ] {
        assert_eq!(HubMessage::parse(topic, &device()), Err(error), "{topic}");
    }
    assert_eq!(HubMessage::parse("devices/pump-7/modules/valve/inputs/a", &module()), Err(Unknown));
}

#[test]
fn filters() {
    for (filter, of_device, of_module) in [
        ("$iothub/methods/POST/#", Some(Interest::Methods), Some(Interest::Methods)),
        ("$iothub/twin/res/#", Some(Interest::TwinAnswers), Some(Interest::TwinAnswers)),
        (
            "$iothub/twin/PATCH/properties/desired/#",
            Some(Interest::DesiredChanges),
            Some(Interest::DesiredChanges),
        ),
        ("devices/pump-7/messages/devicebound/#", Some(Interest::Messages), None),
        ("devices/pump-7/messages/devicebound", Some(Interest::Messages), None),
        ("devices/pump-7/messages/devicebound/", Some(Interest::Messages), None),
        ("devices/pump-7/modules/valve/inputs/#", None, Some(Interest::Inputs)),
        ("devices/pump-7/modules/valve/#", None, Some(Interest::Inputs)),
        ("devices/pump-7/modules/valve2/#", None, None),
        ("devices/pump-7/#", None, None),
        ("devices/pump-8/messages/devicebound/#", None, None),
        ("devices/+/messages/devicebound/#", None, None),
        ("devices/pump-7/messages/events/#", None, None),
        ("$iothub/#", None, None),
        ("$iothub/methods/POST/reboot/#", None, None),
        ("#", None, None),
        ("", None, None),
    ] {
        assert_eq!(parse_filter(filter, &device()), of_device, "{filter}");
        assert_eq!(parse_filter(filter, &module()), of_module, "{filter}");
    }
}

#[test]
fn filters_are_written_as_read() {
    for entity in [device(), module()] {
        let mut written = 0;
        for interest in Interest::ALL {
            if let Some(filter) = filter(interest, &entity) {
                assert_eq!(parse_filter(&filter, &entity), Some(interest), "{filter}");
                written += 1;
            }
        }
        assert_eq!(written, 4, "{entity}");
    }
}

#[track_caller]
fn check_bag(bag: &str, expected: &[(&str, Option<&str>)]) {
    let found: Vec<_> = Bag::from_encoded(bag).iter().collect();
    let found: Vec<_> = found.iter().map(|property| (&*property.key, property.value.as_deref())).collect();
    assert_eq!(found, expected, "{bag}");
}

#[test]
fn bags() {
    check_bag("", &[]);
    check_bag("&&", &[]);
    check_bag("a=b", &[("a", Some("b"))]);
    check_bag("a=&b&c=d=e", &[("a", Some("")), ("b", None), ("c", Some("d=e"))]);
    check_bag("=x", &[("", Some("x"))]);
    check_bag("a=1+2", &[("a", Some("1+2"))]);
    check_bag("a=%2b%2B%20", &[("a", Some("++ "))]);
    check_bag("a=100%&b=%zz&c=%4", &[("a", Some("100%")), ("b", Some("%zz")), ("c", Some("%4"))]);
    check_bag("a=%C3%A9&b=é", &[("a", Some("é")), ("b", Some("é"))]);
    // Not UTF-8 once decoded: left alone.
    check_bag("a=%FF", &[("a", Some("%FF"))]);
    // The Python and the Node device for the same message.
    let expected = [
        ("$.mid", Some("id 1+/")),
        ("$.ct", Some("application/json")),
        ("$.ce", Some("utf-8")),
        ("k e", Some("v&=/+$~'")),
    ];
    check_bag(
        "%24.mid=id%201%2B%2F&%24.ct=application%2Fjson&%24.ce=utf-8&k%20e=v%26%3D%2F%2B%24~%27",
        &expected,
    );
    check_bag(
        "%24.mid=id%201%2B%2F&%24.ct=application%2Fjson&%24.ce=utf-8&k%20e=v%26%3D%2F%2B%24~'",
        &expected,
    );
}

#[test]
fn properties_are_sorted_into_the_hubs_and_the_applications() {
    let bag = Bag::from_encoded(
        "$.mid=1&colour=red&%24.new=2&iothub-ack=full&colour=blue&flag&$=x&iothub-operation=3",
    );
    let properties = bag.properties();
    let keys = |side: &std::collections::BTreeMap<_, _>| -> Vec<String> {
        side.keys().map(|key: &std::borrow::Cow<'_, str>| key.to_string()).collect()
    };
    assert_eq!(keys(&properties.system), ["$.mid", "$.new", "iothub-ack", "iothub-operation"]);
    assert_eq!(keys(&properties.application), ["$", "colour", "flag"]);
    assert_eq!(properties.application["colour"].as_deref(), Some("blue"));
    assert_eq!(bag.get("colour").unwrap().as_deref(), Some("blue"));
    assert_eq!(bag.get("flag"), Some(None));
    assert_eq!(bag.get("absent"), None);
    // 1 + 1 + 4 + 1 of the system's values, then $x, colourblue and flag.
    assert_eq!(properties.size(), 7 + 2 + 10 + 4);
    let names: Vec<_> = bag.iter().filter_map(|property| property.system_name()).collect();
    assert_eq!(names, ["message-id", "iothub-ack", "iothub-operation"]);
}

#[test]
fn cloud_to_device_topic() {
    let mut bag = String::new();
    let message = CloudToDevice {
        message_id: Some("6f1c"),
        content_type: Some("text/plain"),
        content_encoding: Some("utf-8"),
        expiry: Timestamp::parse("2030-01-02T03:04:05Z"),
        feedback: Some(Feedback::Full),
        application: &[("colour", Some("dark red")), ("flag", None)],
        ..CloudToDevice::default()
    };
    message.print(&device(), &mut bag);
    let topic = text(&HubMessage::CloudToDevice { bag: Bag::from_encoded(&bag) }.of(&device()));
    assert_eq!(
        topic,
        "devices/pump-7/messages/devicebound/%24.mid=6f1c&%24.to=%2Fdevices%2Fpump-7%2Fmessages%2Fdevicebound\
         &%24.ct=text%2Fplain&%24.ce=utf-8&%24.exp=2030-01-02T03%3A04%3A05.0000000Z&iothub-ack=full\
         &colour=dark%20red&flag"
    );
    let mut bag = String::new();
    CloudToDevice::default().print(&device(), &mut bag);
    assert_eq!(bag, "%24.to=%2Fdevices%2Fpump-7%2Fmessages%2Fdevicebound");
}

fn bag_text() -> impl Strategy<Value = String> {
    "[a-c%=&/?$.+ é2F]{0,12}"
}

fn entity() -> impl Strategy<Value = EntityId> {
    "[a-z$%.?=]{1,8}(/[a-z$%.?=]{1,8})?".prop_map(|id| EntityId::parse(&id).unwrap())
}

proptest! {
    #[test]
    fn requests_are_written_as_read(
        entity in entity(), rid in "[^/&]{1,12}", bag in bag_text(), version: Option<u64>, status: i32, with_rid: bool,
    ) {
        for request in [
            telemetry(&bag),
            DeviceRequest::TwinGet { rid: &rid },
            DeviceRequest::ReportedPatch { rid: with_rid.then_some(rid.as_str()), version },
            DeviceRequest::MethodResponse { status, rid: &rid },
        ] {
            let topic = text(&request.of(&entity));
            prop_assert_eq!(DeviceRequest::parse(&topic, &entity), Ok(request), "{}", topic);
        }
    }

    #[test]
    fn messages_are_written_as_read(
        entity in entity(), rid in "[^/&]{1,12}", bag in bag_text(), version: Option<u64>, status: u16,
        name in "[^/?]{1,10}",
    ) {
        let bag = Bag::from_encoded(&bag);
        for message in [
            HubMessage::TwinResponse { status, rid: &rid, version },
            HubMessage::DesiredChanged { version: version.unwrap_or(0) },
            HubMessage::MethodRequest { method: &name, rid: &rid },
            if entity.is_module() { HubMessage::ModuleInput { input: &name, bag } } else { HubMessage::CloudToDevice { bag } },
        ] {
            let topic = text(&message.of(&entity));
            prop_assert_eq!(HubMessage::parse(&topic, &entity), Ok(message), "{}", topic);
        }
    }

    #[test]
    fn properties_are_written_as_read(pairs in prop::collection::vec((any::<String>(), any::<Option<String>>()), 0..6)) {
        let pairs: Vec<_> = pairs.iter().filter(|(key, value)| !key.is_empty() || value.is_some()).collect();
        let mut bag = String::new();
        print_properties(pairs.iter().map(|(key, value)| (key.as_str(), value.as_deref())), &mut bag);
        let expected: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
        check_bag(&bag, &expected);
    }

    #[test]
    fn no_topic_is_worth_a_panic(topic in "(devices/|\\$iothub/)?(twin/|methods/|pump-7/|modules/valve/|messages/events)*.{0,20}") {
        for entity in [device(), module()] {
            if let Ok(request) = DeviceRequest::parse(&topic, &entity) {
                let again = text(&request.of(&entity));
                prop_assert_eq!(DeviceRequest::parse(&again, &entity), Ok(request));
            }
            let _ = HubMessage::parse(&topic, &entity);
            let _ = parse_filter(&topic, &entity);
        }
    }
}
