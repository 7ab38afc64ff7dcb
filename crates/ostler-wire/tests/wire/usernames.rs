//! What devices call themselves.

use ostler_wire::username::{self, Username, UsernameError};
use proptest::prelude::*;

#[track_caller]
fn check(text: &str, entity: &str, api: Option<&str>, model: Option<&str>, client: Option<&str>) {
    let username = username::parse(text).unwrap();
    let found = (
        username.host,
        username.entity,
        username.api_version.as_deref(),
        username.model_id.as_deref(),
        username.client_type.as_deref(),
    );
    assert_eq!(found, ("hub1.example.net", entity, api, model, client), "{text}");
}

/// The forms of device §2.2, as the clients send them.
#[test]
fn real_usernames() {
    check(
        "hub1.example.net/pump-7/?api-version=2019-10-01&DeviceClientType=azure-iot-device-iothub-py%2F2.14.0%283.11.7%3BLinux%3Bx86_64%29",
        "pump-7",
        Some("2019-10-01"),
        None,
        Some("azure-iot-device-iothub-py/2.14.0(3.11.7;Linux;x86_64)"),
    );
    check(
        "hub1.example.net/pump-7/?api-version=2020-09-30&DeviceClientType=py&model-id=dtmi%3Aex%3AThermostat%3B1",
        "pump-7",
        Some("2020-09-30"),
        Some("dtmi:ex:Thermostat;1"),
        Some("py"),
    );
    check(
        "hub1.example.net/pump-7/?api-version=2021-04-12&model-id=dtmi:ex:Thermostat;1&DeviceClientType=azure-iot-device%2F1.18.4%20(node%20v20)",
        "pump-7",
        Some("2021-04-12"),
        Some("dtmi:ex:Thermostat;1"),
        Some("azure-iot-device/1.18.4 (node v20)"),
    );
    check(
        "hub1.example.net/pump-7/?api-version=2020-09-30&DeviceClientType=iothubclient%2f1.15.0%20(native%3b%20Linux%3b%20x86_64)&model-id=dtmi:a;1",
        "pump-7",
        Some("2020-09-30"),
        Some("dtmi:a;1"),
        Some("iothubclient/1.15.0 (native; Linux; x86_64)"),
    );
    check(
        "hub1.example.net/pump-7/valve/?api-version=2020-09-30&DeviceClientType=.NET%2F1.42",
        "pump-7/valve",
        Some("2020-09-30"),
        None,
        Some(".NET/1.42"),
    );
}

#[test]
fn tolerated_usernames() {
    check("hub1.example.net/pump-7", "pump-7", None, None, None);
    check("hub1.example.net/pump-7/", "pump-7", None, None, None);
    check("hub1.example.net/pump-7/valve", "pump-7/valve", None, None, None);
    check("hub1.example.net/pump-7/valve/", "pump-7/valve", None, None, None);
    check("hub1.example.net/pump-7/?", "pump-7", None, None, None);
    check("hub1.example.net/pump-7/api-version=2016-11-14", "pump-7", Some("2016-11-14"), None, None);
    check("hub1.example.net/pump-7/valve/api-version=1&x=y", "pump-7/valve", Some("1"), None, None);
    check("hub1.example.net/pump-7/DeviceClientType=c&api-version=1", "pump-7", Some("1"), None, Some("c"));
    check(
        "hub1.example.net/pump-7/?api-version=1&DeviceClientType=a/b/c",
        "pump-7",
        Some("1"),
        None,
        Some("a/b/c"),
    );
    check(
        "hub1.example.net/pump-7/v/?api-version=1&DeviceClientType=a/b",
        "pump-7/v",
        Some("1"),
        None,
        Some("a/b"),
    );
    check("hub1.example.net/pump-7/?api-version=1&api-version=2", "pump-7", Some("1"), None, None);
    check("hub1.example.net/pump-7/?digital-twin-model-id=dtmi:a;1", "pump-7", None, Some("dtmi:a;1"), None);
    check("hub1.example.net/pump-7/?auth-chain=x&api-version=", "pump-7", Some(""), None, None);
    check("hub1.example.net/?odd=id/?api-version=1", "?odd=id", Some("1"), None, None);
    check("hub1.example.net/pump-7/?DeviceClientType=%FF+%", "pump-7", None, None, Some("%FF+%"));
}

#[test]
fn malformed_usernames() {
    for (text, error) in [
        ("", UsernameError::Host),
        ("pump-7", UsernameError::Host),
        ("/pump-7/", UsernameError::Host),
        ("hub/", UsernameError::Entity),
        ("hub//", UsernameError::Entity),
        ("hub//?api-version=1", UsernameError::Entity),
        ("hub/a//?api-version=1", UsernameError::Entity),
        ("hub/a/b/c", UsernameError::Entity),
        ("hub/a/b/c/?api-version=1", UsernameError::Entity),
    ] {
        assert_eq!(username::parse(text), Err(error), "{text}");
    }
}

proptest! {
    #[test]
    fn usernames_are_written_as_read(
        host in "[a-z.]{1,12}", entity in "[a-z0-9.]{1,8}(/[a-z0-9.]{1,8})?",
        api_version: Option<String>, model_id: Option<String>, client_type: Option<String>,
    ) {
        let username = Username {
            host: &host,
            entity: &entity,
            api_version: api_version.map(Into::into),
            model_id: model_id.map(Into::into),
            client_type: client_type.map(Into::into),
        };
        let text = username.to_string();
        prop_assert_eq!(username::parse(&text), Ok(username));
    }

    #[test]
    fn no_username_is_worth_a_panic(text in "[a-c/?&=%.é]{0,30}|.*") {
        if let Ok(username) = username::parse(&text) {
            let again = username.to_string();
            let reread = username::parse(&again);
            prop_assert_eq!(reread, Ok(username), "{}", again);
        }
    }
}
