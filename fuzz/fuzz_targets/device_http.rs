//! What devices send over HTTP: lists of blocks, signatures of uploads, telemetry in batches, messages.
//!
//! The first byte chooses the door.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ostler_wire::rest::file::{read_upload_end, read_upload_start};
use ostler_wire::rest::message::{read_event, read_events};
use ostler_wire::rest::query::Query;
use ostler_wire::rest::storage::{read_block_list, write_error, Sas, StorageCode};

/// Blocks that a list may have here.
const MOST: usize = 64;

fuzz_target!(|data: &[u8]| {
    let Some((&door, body)) = data.split_first() else { return };
    match door % 5 {
        0 => {
            drop(read_upload_start(body));
            drop(read_upload_end(body, None));
        }
        1 => block_list(body),
        2 => drop(read_events(body)),
        3 => headers(body),
        _ => signature(body),
    }
});

fn block_list(body: &[u8]) {
    match read_block_list(body, MOST) {
        Ok(blocks) => assert!(blocks.len() <= MOST && blocks.iter().all(|id| (1..=64).contains(&id.len()))),
        Err(why) => drop(write_error(StorageCode::InvalidXmlDocument, why)),
    }
}

/// A line for each header; what is read is no larger than what was sent.
fn headers(body: &[u8]) {
    let lines = body.split(|&byte| byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        Some((std::str::from_utf8(&line[..colon]).ok()?, &line[colon + 1..]))
    });
    let Ok(event) = read_event(lines, b"") else { return };
    assert!(event.size() <= body.len());
}

/// A signature reads as it was written.
fn signature(body: &[u8]) {
    let Ok(text) = std::str::from_utf8(body) else { return };
    let Ok(sas) = Sas::from_query(Query::new(Some(text))) else { return };
    let query = sas.to_query();
    let again = Sas::from_query(Query::new(query.strip_prefix('?'))).expect("written by us");
    assert_eq!((again.identifier, again.signature), (sas.identifier, sas.signature));
}
