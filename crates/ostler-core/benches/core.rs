//! Costs of what every request does: read JSON, merge a twin, print it, judge a token, read a query and judge a row.
//!
//! The twin is the one of the store's measurements: 5 tags, 8 desired and 12 reported leaves.

use divan::{black_box, Bencher};
use ostler_core::auth::{authorize, Context, Policy, Rights};
use ostler_core::id::EntityId;
use ostler_core::identity::{FreshSecrets, Identity, IdentitySpec, SymmetricKey};
use ostler_core::json::{Object, Raw, Value};
use ostler_core::query::{Dialect, Presence, Query, TwinRow};
use ostler_core::record::Record;
use ostler_core::sas::sign;
use ostler_core::time::Timestamp;
use ostler_core::twin::{SectionPatch, Twin, TwinPatch};

const NOW: Timestamp = Timestamp::from_unix_secs(1_800_000_000);
const TAGS: &[u8] = br#"{"site":"plant-7","building":43,"floor":"3","owner":"facilities","critical":true}"#;
const DESIRED: &[u8] = br#"{"interval":30,"mode":{"eco":true,"night":{"from":"22:00","to":"06:00"}},"limits":{"low":1.5,"high":80.25},"firmware":{"version":"2.1","url":"https://updates.example.net/fw/2.1.bin"}}"#;
const REPORTED: &[u8] = br#"{"firmware":{"version":"2.0","status":"downloading","progress":41},"battery":87,"signal":-71,"uptime":123456,"position":{"lat":52.520008,"lon":13.404954},"last":{"error":"none","at":"2026-11-20T10:00:00Z"},"door":"open","alarm":false}"#;
const PATCH: &[u8] = br#"{"battery":86,"signal":-70,"firmware":{"progress":42}}"#;

fn main() {
    divan::main();
}

fn object(text: &[u8]) -> Object {
    Object::parse(text).expect("the text above is an object")
}

fn twin() -> Twin {
    let patch = TwinPatch {
        tags: Some(SectionPatch::Merge(object(TAGS))),
        desired: Some(SectionPatch::Merge(object(DESIRED))),
    };
    let (twin, _) = Twin::default().patch(&patch, NOW).expect("the texts above obey the rules");
    twin.report(&object(REPORTED), NOW).expect("the text above obeys the rules")
}

#[divan::bench]
fn json_parse_reported() -> Value {
    Value::parse(black_box(REPORTED)).expect("valid")
}

#[divan::bench]
fn json_check_reported() -> usize {
    Raw::parse(black_box(REPORTED)).expect("valid").text().len()
}

#[divan::bench]
fn twin_report_three_leaves(bencher: Bencher) {
    let (twin, patch) = (twin(), object(PATCH));
    bencher.with_inputs(|| twin.clone()).bench_values(|twin| twin.report(black_box(&patch), NOW));
}

#[divan::bench]
fn twin_print_for_device(bencher: Bencher) {
    let twin = twin();
    let mut out = Vec::new();
    bencher.bench_local(|| {
        out.clear();
        black_box(&twin).write_for_device(&mut out);
        out.len()
    });
}

#[divan::bench]
fn judge_service_token(bencher: Bencher) {
    let key = SymmetricKey::from([7; 32]);
    let policies = [Policy {
        name: "service".into(),
        rights: Rights::SERVICE_CONNECT,
        primary: key.clone(),
        secondary: SymmetricKey::from([8; 32]),
    }];
    let token = sign("hub.local", &key, NOW.plus_secs(60), Some("service"));
    let is_host = |host: &str| host.eq_ignore_ascii_case("hub.local");
    let context = Context { policies: &policies, is_host: &is_host, skew_secs: 300, now: NOW };
    bencher.bench_local(|| authorize(black_box(&token), "twins/pump-7", Rights::SERVICE_CONNECT, context));
}

const QUERY: &str =
    "SELECT * FROM devices WHERE tags.building = 43 AND properties.reported.firmware.version != '2.1'";

fn judge(bencher: Bencher, condition: &str) {
    let fresh = FreshSecrets { primary: [1; 32], secondary: [2; 32], etag_start: 7 };
    let identity = Identity::create(IdentitySpec::default(), &fresh, NOW).expect("a plain identity");
    let id = EntityId::parse("pump-7").expect("a valid id");
    let record = Record { twin: twin(), ..Record::new(id, identity) };
    let text = format!("SELECT * FROM devices WHERE {condition}");
    let query = Query::parse(&text, Dialect::Extended).expect("the conditions below are valid");
    let condition = query.condition.expect("it has one");
    let row = TwinRow { record: &record, presence: Presence::default() };
    bencher.bench_local(|| black_box(&condition).truth(black_box(&row)));
}

#[divan::bench]
fn query_parse() -> Query {
    Query::parse(black_box(QUERY), Dialect::Extended).expect("valid")
}

#[divan::bench]
fn query_judge_two_comparisons(bencher: Bencher) {
    judge(bencher, "tags.building = 43 AND properties.reported.firmware.version != '2.1'");
}

#[divan::bench]
fn query_judge_id_among_many(bencher: Bencher) {
    let ids: Vec<String> = (0..500).map(|i| format!("'pump-{i}'")).collect();
    judge(bencher, &format!("deviceId IN [{}]", ids.join(", ")));
}

#[divan::bench]
fn query_judge_functions(bencher: Bencher) {
    judge(bencher, "STARTSWITH(deviceId, 'pump') AND LOWER(tags.site) LIKE 'plant%7'");
}
