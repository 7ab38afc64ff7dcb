//! Result lines to medians, medians to tables.

use super::scenario::{Bound, By, Figure, Goal, Scenario};
use anyhow::{Context, Result};
use serde_json::Value;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;

const BEGIN: &str = "<!-- tables: begin, written by `cargo xtask bench` -->";
const END: &str = "<!-- tables: end -->";

/// The result lines of one run.
pub struct Results(Vec<Value>);

impl Results {
    /// Reads what was appended to the file since it had `from` bytes.
    pub fn read(path: &Path, from: u64) -> Result<Self> {
        let mut file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
        file.seek(SeekFrom::Start(from))?;
        let lines = BufReader::new(file).lines();
        Ok(Self(lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect::<Result<_>>()?))
    }

    fn of<'a>(&'a self, benchmark: &'a str, contender: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |line| {
            line["benchmark"] == benchmark && line["contender"] == contender && line["failed"].is_null()
        })
    }

    /// The median of a figure over the repetitions.
    fn median(&self, benchmark: &str, Figure(kind, path): Figure) -> Option<f64> {
        let mut values: Vec<f64> =
            self.of(benchmark, kind.name()).filter_map(|line| at(line, path)).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() {
            0 => None,
            n if n % 2 == 0 => Some((values[middle - 1] + values[middle]) / 2.0),
            _ => Some(values[middle]),
        }
    }

    fn contenders(&self, benchmark: &str) -> Vec<String> {
        let mut names = Vec::new();
        for line in self.0.iter().filter(|line| line["benchmark"] == benchmark) {
            let name = line["contender"].as_str().unwrap_or_default().to_owned();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

/// A number by its dotted path.
fn at(line: &Value, path: &str) -> Option<f64> {
    path.split('.').try_fold(line, |value, name| value.get(name))?.as_f64()
}

/// One result in a few words, for the terminal.
pub fn brief(line: &Value) -> String {
    if let Some(why) = line["failed"].as_str() {
        return format!("FAILED: {why}");
    }
    let words = COLUMNS
        .iter()
        .filter_map(|(title, path, scale)| Some(format!("{title} {}", number(at(line, path)? * scale))));
    let errors = match line["errors"].as_u64() {
        Some(n) if n > 0 => format!("; {n} errors {}", line["error_kinds"]),
        _ => String::new(),
    };
    words.collect::<Vec<_>>().join("; ") + &errors
}

/// What a table may show: title, path in a result line, factor.
const COLUMNS: &[(&str, &str, f64)] = &[
    ("ops/s", "ops_per_s", 1.0),
    ("connections", "alive_at_end", 1.0),
    ("connections/s", "connects_per_s", 1.0),
    ("p50 µs", "lat_us.p50", 1.0),
    ("p99 µs", "lat_us.p99", 1.0),
    ("server CPU µs/op", "server_cpu_s_per_1k", 1_000.0),
    ("server CPU µs/connect", "connecting.server_cpu_s_per_1k", 1_000.0),
    ("server cores", "server_cores", 1.0),
    ("load generator cores", "client_cores", 1.0),
    ("others' cores", "other_cores", 1.0),
    ("bytes/connection", "bytes_per_connection", 1.0),
    ("idle CPU, % of a core", "idle.server_cores", 100.0),
    ("ready after ms", "ready_ms", 1.0),
    ("devices", "fleet", 1.0),
    ("registered/s", "registered_per_s", 1.0),
    ("bytes of JSON a twin", "twin_bytes", 1.0),
    ("MB RSS", "rss_mb", 1.0),
    ("MB on disk", "disk_mb", 1.0),
    ("patches/s beside", "patches_per_s", 1.0),
    ("ms", "query_ms", 1.0),
    ("rows", "rows_each", 1.0),
    ("seconds to completed", "total_s", 1.0),
    ("devices/s", "devices_per_s", 1.0),
    ("first call after ms", "first_call_ms", 1.0),
];

/// Medians of every benchmark, and how each goal stands, as Markdown.
pub fn tables(results: &Results, scenarios: &[Scenario]) -> String {
    let mut text = String::new();
    for scenario in scenarios {
        let contenders = results.contenders(scenario.name);
        if contenders.is_empty() {
            continue;
        }
        text += &format!("### {}\n\n{}.\n\n", scenario.name, scenario.about);
        text += &medians(results, scenario.name, &contenders);
        for goal in &scenario.goals {
            text += &verdict(results, scenario.name, goal);
        }
        text.push('\n');
    }
    text
}

fn medians(results: &Results, benchmark: &str, contenders: &[String]) -> String {
    let median = |name: &str, path: &'static str| {
        let mut values: Vec<f64> = results.of(benchmark, name).filter_map(|line| at(line, path)).collect();
        values.sort_by(f64::total_cmp);
        middle(&values)
    };
    let shown: Vec<_> = COLUMNS
        .iter()
        .filter(|(_, path, _)| contenders.iter().any(|name| median(name, path).is_some()))
        .collect();
    let titles: Vec<&str> = shown.iter().map(|column| column.0).collect();
    let mut text = format!("| | runs | {} |\n|---|---|{}\n", titles.join(" | "), "--:|".repeat(shown.len()));
    for name in contenders {
        let cells: Vec<String> = shown
            .iter()
            .map(|(_, path, scale)| {
                median(name, path).map_or_else(|| "–".into(), |value| number(value * scale))
            })
            .collect();
        let runs = results.of(benchmark, name).count();
        let errors: u64 = results.of(benchmark, name).filter_map(|line| line["errors"].as_u64()).sum();
        let note = if errors > 0 { format!(" ({errors} errors)") } else { String::new() };
        text += &format!("| {name}{note} | {runs} | {} |\n", cells.join(" | "));
    }
    text
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 0 => Some((sorted[half - 1] + sorted[half]) / 2.0),
        _ => Some(sorted[half]),
    }
}

fn verdict(results: &Results, benchmark: &str, goal: &Goal) -> String {
    let Some(value) = results.median(benchmark, goal.figure) else { return String::new() };
    let (limit, wanted) = match goal.by {
        By::Value(limit) => (Some(limit), number(limit)),
        By::Times(factor, yardstick) => (
            results.median(benchmark, yardstick).map(|other| other * factor),
            format!("{factor} × {}", yardstick.0.name()),
        ),
    };
    let Some(limit) = limit else { return String::new() };
    let (reached, sign) = match goal.bound {
        Bound::AtLeast => (value >= limit, "≥"),
        Bound::AtMost => (value <= limit, "≤"),
    };
    let ratio = match goal.by {
        By::Times(factor, yardstick) => format!(", {:.2} × {}", value / limit * factor, yardstick.0.name()),
        By::Value(_) => String::new(),
    };
    let word = if reached { "reached" } else { "**missed**" };
    format!("\n- Goal {sign} {wanted} ({}): {}{ratio}: {word}.", goal.about, number(value)) + "\n"
}

/// A figure with as many digits as it deserves.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let (whole, fraction) =
        text.split_once('.').map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |rest| ("-", rest));
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    fraction.map_or_else(|| format!("{sign}{grouped}"), |rest| format!("{sign}{grouped}.{rest}"))
}

/// Puts new tables between the marker comments of a page. Benchmarks that did not run keep theirs; all stand in the
/// order of `names`.
pub fn replace(page: &Path, tables: &str, names: &[&str]) -> Result<()> {
    let text = std::fs::read_to_string(page).with_context(|| page.display().to_string())?;
    let missing = || format!("{} lacks its marker comments", page.display());
    let (before, rest) = text.split_once(BEGIN).with_context(missing)?;
    let (old, after) = rest.split_once(END).with_context(missing)?;
    let tables = merged(old, tables, names);
    std::fs::write(page, format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", tables.trim()))?;
    Ok(())
}

fn merged(old: &str, new: &str, names: &[&str]) -> String {
    let section = |text: &str, name: &str| {
        let mut sections = text.split("### ").skip(1);
        sections.find(|section| section.lines().next() == Some(name)).map(|section| format!("### {section}"))
    };
    let kept = names.iter().filter_map(|name| section(new, name).or_else(|| section(old, name)));
    kept.map(|section| format!("{}\n\n", section.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::contender::Kind;
    use serde_json::json;

    #[test]
    fn numbers_are_readable() {
        for (value, text) in [
            (1234567.0, "1,234,567"),
            (-1234.5, "-1,234"),
            (99.95, "100.0"),
            (12.34, "12.3"),
            (0.0517, "0.052"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn tables_of_other_runs_stay() {
        let old = "\n### a\n\nold a\n\n### b\n\nold b\n\n### gone\n\nold\n";
        let new = "### b\n\nnew b\n\n### c\n\nnew c\n\n";
        let all = merged(old, new, &["c", "a", "b", "never"]);
        assert_eq!(all, "### c\n\nnew c\n\n### a\n\nold a\n\n### b\n\nnew b\n\n");
    }

    #[test]
    fn goals_compare_medians_of_one_run() {
        let line =
            |contender: &str, ops: f64| json!({"benchmark": "b", "contender": contender, "ops_per_s": ops});
        let results = Results(vec![
            line("ostler", 70.0),
            line("ostler", 10.0),
            line("ostler", 90.0),
            line("mock hub", 100.0),
            json!({"benchmark": "b", "contender": "mock hub", "failed": "no"}),
        ]);
        let by = By::Times(0.7, Figure(Kind::Mock, "ops_per_s"));
        let goal =
            Goal { figure: Figure(Kind::Hub, "ops_per_s"), bound: Bound::AtLeast, by, about: "calls/s" };
        let text = verdict(&results, "b", &goal);
        assert!(text.contains("0.70 × mock hub: reached"), "{text}");
        let table = medians(&results, "b", &results.contenders("b"));
        assert!(table.contains("| ostler | 3 | 70.0 |"), "{table}");
    }
}
