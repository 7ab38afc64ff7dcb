//! What a device is handed as text: connection strings, and firmware packages from whoever publishes them.
//!
//! The first byte chooses the door.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ostler_device_sdk::firmware::{Manifest, Package, PublicKey, Version};
use ostler_device_sdk::ConnectionString;

fuzz_target!(|data: &[u8]| {
    let Some((&door, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    match door % 5 {
        0 => connection_string(text),
        1 => manifest(text),
        2 => package(text),
        3 => version(text),
        _ => drop(text.parse::<PublicKey>()),
    }
});

/// Neither what is shown of it nor why it was refused has the key.
fn connection_string(text: &str) {
    let key = text.split(';').find_map(|part| part.strip_prefix("SharedAccessKey="));
    let shown = match text.parse::<ConnectionString>() {
        Ok(parsed) => {
            assert!(!parsed.host().is_empty() && !parsed.entity().device().is_empty());
            format!("{parsed:?}")
        }
        Err(error) => format!("{error} {error:?}"),
    };
    let secret = key.filter(|key| key.len() >= 24 && text.matches(*key).count() == 1);
    assert!(secret.is_none_or(|key| !shown.contains(key)), "{shown}");
}

/// What is signed again says the same.
fn manifest(text: &str) {
    let Ok(manifest) = Manifest::parse(text) else { return };
    assert_eq!(Manifest::parse(&manifest.to_text()).as_ref(), Ok(&manifest));
}

fn package(text: &str) {
    let Ok(package) = Package::parse(text) else { return };
    assert_eq!(Package::parse(&package.to_json()).as_ref(), Ok(&package));
}

/// Two versions stand in one order only, whichever is asked first.
fn version(text: &str) {
    let mut words = text.splitn(2, ' ');
    let mut next = || words.next().and_then(|word| word.parse::<Version>().ok());
    let (Some(one), Some(other)) = (next(), next()) else { return };
    assert_eq!(one.cmp(&other), other.cmp(&one).reverse());
    assert_eq!(one.to_string().parse::<Version>().as_ref(), Ok(&one));
}
