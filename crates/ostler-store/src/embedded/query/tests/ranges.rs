//! Ranges over numbers of which most differ, which are kept in a form of their own.

use super::{check, commit, run, store, Records, Write, NOTHING_AT_ONCE};
use crate::Store;

const PLACES: usize = 160;

fn texts() -> Vec<(&'static str, &'static str)> {
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let value = |n: usize| match n % 16 {
        0 => r#"{"floor":"text"}"#.to_owned(),
        1 => r#"{"site":"no floor"}"#.to_owned(),
        2 => format!(r#"{{"floor":{}.0}}"#, n / 2),
        3 => format!(r#"{{"floor":-{n}.25}}"#),
        4 => format!(r#"{{"floor":{n}e-1}}"#),
        _ => format!(r#"{{"floor":{}}}"#, n * 7 % 97),
    };
    (0..PLACES).map(|n| (leak(format!("d-{n:03}")), leak(value(n)))).collect()
}

#[test]
fn ranges_are_exact_before_and_after_changes() {
    let engines = vec![("numbers", store(NOTHING_AT_ONCE, 1 << 20))];
    let mut records = Records::new();
    let put = |(id, tags): (&'static str, &'static str)| Write::Put { id, tags, version: 1, disabled: false };
    let all = texts();
    run(async {
        let writes: Vec<Write> = all.iter().copied().map(put).collect();
        commit(&engines, &writes, &mut records).await;
        for round in 0..3 {
            for constant in ["-35.25", "0", "7", "8.0", "8.4", "40", "41.5", "96", "200"] {
                for op in ["<", "<=", ">", ">="] {
                    let text = format!("SELECT * FROM devices WHERE tags.floor {op} {constant}");
                    check("numbers", &engines[0].1, &text, 50, &records).await;
                    let text =
                        format!("SELECT COUNT() AS n FROM devices WHERE NOT {constant} {op} tags.floor");
                    check("numbers", &engines[0].1, &text, 50, &records).await;
                }
            }
            for condition in [
                "tags.floor > 5 AND tags.floor < 60",
                "tags.floor < 5 OR tags.floor > 60 OR tags.floor > 'm'",
                "tags.floor = 7",
                "tags.floor != 7",
                "IS_DEFINED(tags.floor)",
                "NOT IS_DEFINED(tags.floor)",
                "tags.floor IN [7, 14, 'text']",
                "tags.floor * 2 > 30",
            ] {
                let text = format!("SELECT * FROM devices WHERE {condition}");
                check("numbers", &engines[0].1, &text, 50, &records).await;
            }
            let is_numbers = |place: usize| {
                let shard = engines[0].1.model.table(false).shards[place].read();
                shard.columns.iter().any(|column| column.as_coded().is_none())
            };
            assert!((0..64).filter(|place| is_numbers(*place)).count() > 10, "round {round}");
            // Values move from one device to another, and some devices go.
            let moved: Vec<Write> = (0..PLACES)
                .step_by(round + 2)
                .map(|n| match n % 5 {
                    4 => Write::Delete { id: all[n].0 },
                    _ => put((all[n].0, all[(n * 31 + 7) % PLACES].1)),
                })
                .collect();
            commit(&engines, &moved, &mut records).await;
        }
        assert_eq!(engines[0].1.counts().devices, records.len() as u64);
    });
}
