//! Shared access signatures: tokens from strangers are taken apart without a panic, and tokens of our own are
//! accepted.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ostler_core::identity::SymmetricKey;
use ostler_core::sas::{percent_decode, percent_encode, sign, MatchCase, Token};
use ostler_core::time::Timestamp;

fuzz_target!(|text: &str| {
    assert_eq!(percent_decode(&percent_encode(text)), text);
    let secret = SymmetricKey::from_base64("c2VjcmV0IHRoYXQgbm8gaW5wdXQgY2FuIGtub3chISE=").expect("base64");
    if let Ok(token) = Token::parse(text) {
        assert!(!token.is_signed_with(&secret), "a forgery");
        for match_case in [MatchCase::Exact, MatchCase::Ignore] {
            let is_host = |host: &str| host.eq_ignore_ascii_case("hub1.example.net");
            if token.covers("devices/pump-7", is_host, match_case) {
                assert!(
                    token.covers("devices/pump-7/modules/valve", is_host, match_case),
                    "what is below is covered"
                );
            }
            assert!(!token.covers("devices/pump-7", |_| false, match_case));
        }
    }
    let (resource, policy) =
        text.split_once('\n').map_or((text, None), |(resource, policy)| (resource, Some(policy)));
    let token = sign(resource, &secret, Timestamp::from_unix_secs(1_893_456_000), policy);
    match Token::parse(&token) {
        Ok(token) => {
            assert!(token.is_signed_with(&secret));
            assert_eq!(token.expires().unix_secs(), 1_893_456_000);
            assert_eq!(token.policy(), policy.filter(|name| !name.is_empty()));
        }
        Err(error) => assert!(resource.is_empty() || token.len() > 4096, "{error}: {token}"),
    }
});
