//! What services send over HTTP: request lines, queries and bodies.
//!
//! The input is a list of requests, one in a line; the first byte of each chooses the door.

#![no_main]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use ostler_core::configuration::{Configuration, ConfigurationId};
use ostler_core::id::EntityId;
use ostler_core::job::{JobStatus, JobView};
use ostler_core::json::Raw;
use ostler_core::method::MethodAnswer;
use ostler_core::query::Dialect;
use ostler_core::time::Timestamp;
use ostler_wire::rest::bulk::{read_entries, read_result, write_result};
use ostler_wire::rest::configuration::{
    read_configuration, read_query_test, write_configuration, AllMetrics,
};
use ostler_wire::rest::error::ErrorReport;
use ostler_wire::rest::etag::{bare, header_value, IfMatch};
use ostler_wire::rest::identity::read_identity;
use ostler_wire::rest::job::{read_dry_run, read_job, write_job, Audience};
use ostler_wire::rest::method::{read_call, write_answer};
use ostler_wire::rest::page::{read_continuation, read_max_items, MAX_ITEMS};
use ostler_wire::rest::query::{check_api_version, Query};
use ostler_wire::rest::route::{Method, Route};
use ostler_wire::rest::twin::{read_content, read_patch};
use ostler_wire::rest::twin_query::{read_query, write_query};

fuzz_target!(|data: &[u8]| {
    data.split(|&byte| byte == b'\n').take(16).for_each(request);
});

fn request(line: &[u8]) {
    let Some((&door, body)) = line.split_first() else { return };
    match door % 8 {
        0 => bulk(body),
        1 => drop(read_identity(&EntityId::parse("pump-7").expect("a valid id"), body)),
        2 => {
            drop(read_patch(body));
            query(body);
        }
        3 => {
            drop(read_content(body));
            configuration(body);
        }
        4 => {
            method(body);
            job(body);
        }
        5 => drop(ErrorReport::parse(body)),
        6 => drop(read_result(body)),
        _ => drop(std::str::from_utf8(body).map(request_line)),
    }
}

/// What cannot be carried out is reported, and the report reads as it was written.
fn bulk(body: &[u8]) {
    let Ok(entries) = read_entries(body) else { return };
    let errors: Vec<_> = entries.into_iter().filter_map(Result::err).collect();
    let mut out = Vec::new();
    write_result(&errors, &mut out);
    assert_eq!(read_result(&out), Some(errors));
}

/// A query's text goes through as it is.
fn query(body: &[u8]) {
    let Ok(text) = read_query(body) else { return };
    let mut out = Vec::new();
    write_query(&text, &mut out);
    assert_eq!(read_query(&out), Ok(text));
}

/// The payload goes through as the text it is.
fn method(body: &[u8]) {
    let Ok(call) = read_call(body) else { return };
    let payload = Raw::parse(&call.payload).expect("a payload is JSON");
    let answer = MethodAnswer { status: 200, payload: payload.text().into() };
    let mut out = Vec::new();
    write_answer(&answer, &mut out);
    let members = Raw::parse(&out).expect("an answer is JSON").members().expect("an object");
    assert!(members.contains(&(Cow::Borrowed("payload"), payload)));
}

/// What a client sends back unchanged changes nothing but the etag.
fn configuration(body: &[u8]) {
    drop(read_query_test(body));
    let id = ConfigurationId::new("cfg").expect("a valid id");
    let Ok(spec) = read_configuration(&id, body) else { return };
    let Ok(made) = Configuration::create(id.clone(), spec, Dialect::Extended, 0, Timestamp::NEVER) else {
        return;
    };
    let mut out = Vec::new();
    write_configuration(&made, &AllMetrics::default(), &mut out);
    let mut again = read_configuration(&id, &out).expect("what the hub tells can be sent back");
    // The queries are not written here, because their results are counted elsewhere.
    again.metrics = None;
    let again = made.update(again, Dialect::Extended, Timestamp::NEVER).expect("and is taken");
    assert_eq!(Configuration { etag: made.etag, ..again }, made);
}

/// A job is told as it was asked for.
fn job(body: &[u8]) {
    let Ok(spec) = read_dry_run(body) else { return };
    let view = JobView {
        spec: Arc::new(spec.clone()),
        created: Timestamp::NEVER,
        started: None,
        ended: None,
        status: JobStatus::Queued,
        failure_reason: None,
        status_message: None,
        counts: None,
        wave: None,
        failures_by_cause: BTreeMap::new(),
        parent: None,
    };
    let mut out = Vec::new();
    write_job(&view, Audience::Ostler, &mut out);
    let mut again = read_job(&spec.id, &out, Audience::Ostler).expect("what the hub tells can be asked for");
    again.start = again.start.filter(|_| spec.start.is_some());
    assert_eq!(again, spec);
}

/// Verb, path and query, then an `If-Match`.
fn request_line(text: &str) {
    let mut words = text.splitn(3, ' ');
    let verb = Method::parse(words.next().unwrap_or_default());
    let target = words.next().unwrap_or_default();
    let if_match = words.next();
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    if let Ok(route) = Route::parse(verb, path, if_match) {
        assert!(!route.endpoint.path().is_empty());
    }
    let _ = check_api_version(Query::new(query));
    let _ = Query::new(query).value("api-version");
    let _ = IfMatch::parse(if_match);
    assert!(read_max_items(if_match).map_or(true, |rows| (1..=MAX_ITEMS).contains(&rows)));
    assert!(read_continuation(if_match).is_none_or(|token| !token.is_empty()));
    if let Some(etag) = if_match.filter(|etag| !etag.contains('"')) {
        let etag = bare(etag);
        assert_eq!(bare(&header_value(etag)), etag);
    }
}
