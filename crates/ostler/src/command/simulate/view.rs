//! How a simulation is shown: a block redrawn on a terminal, a line per interval elsewhere, JSON lines for scripts.
//!
//! Must not know: devices, connections.
//!
//! Invariant: escape sequences that move the cursor go to terminals only.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde::Serialize;

use super::counters::Totals;
use crate::exit::Result;
use crate::output::{Out, Tone};

/// Causes of errors that are listed; all are counted.
const SHOWN_CAUSES: usize = 4;

/// What is shown at one moment.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Sample<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    seconds: f64,
    devices: u64,
    #[serde(flatten)]
    totals: &'a Totals,
    method_calls_per_second: f64,
    reports_per_second: f64,
    connects_per_second: f64,
}

/// Shows samples as they come.
pub struct View<'o> {
    out: &'o Out,
    style: Style,
    devices: u64,
    title: String,
    last: (f64, Totals),
    /// Lines of the block on the terminal.
    drawn: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Block,
    Lines,
    Json,
}

/// Per second, since the sample before.
#[derive(Debug, Clone, Copy, Default)]
struct Rates {
    calls: f64,
    reports: f64,
    connects: f64,
}

impl<'o> View<'o> {
    pub fn new(out: &'o Out, devices: u64, title: String) -> Self {
        let style = match (out.is_json(), io::stdout().is_terminal()) {
            (true, _) => Style::Json,
            (false, true) => Style::Block,
            (false, false) => Style::Lines,
        };
        Self { out, style, devices, title, last: (0.0, Totals::default()), drawn: 0 }
    }

    /// Shows where things are.
    pub fn sample(&mut self, elapsed: Duration, totals: Totals) -> Result {
        let seconds = elapsed.as_secs_f64();
        let rates = self.rates(seconds, &totals);
        match self.style {
            Style::Json => self.json("sample", seconds, &totals, rates)?,
            Style::Lines => self.out.line(self.one_line(seconds, &totals, rates))?,
            Style::Block => self.redraw(seconds, &totals, rates)?,
        }
        self.last = (seconds, totals);
        Ok(())
    }

    /// Shows what it came to.
    pub fn summary(&mut self, elapsed: Duration, totals: &Totals) -> Result {
        let seconds = elapsed.as_secs_f64();
        self.last = (0.0, Totals::default());
        let rates = self.rates(seconds, totals);
        match self.style {
            Style::Json => self.json("summary", seconds, totals, rates),
            Style::Lines | Style::Block => {
                self.clear()?;
                self.out.pairs(facts(totals, seconds))
            }
        }
    }

    fn rates(&self, seconds: f64, totals: &Totals) -> Rates {
        let (since, before) = &self.last;
        let span = (seconds - since).max(1e-3);
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / span;
        Rates {
            calls: rate(totals.method_calls, before.method_calls),
            reports: rate(totals.reports, before.reports),
            connects: rate(totals.connects, before.connects),
        }
    }

    fn json(&self, kind: &'static str, seconds: f64, totals: &Totals, rates: Rates) -> Result {
        let round = |value: f64| (value * 10.0).round() / 10.0;
        self.out.json_line(&Sample {
            kind,
            seconds: (seconds * 1e3).round() / 1e3,
            devices: self.devices,
            totals,
            method_calls_per_second: round(rates.calls),
            reports_per_second: round(rates.reports),
            connects_per_second: round(rates.connects),
        })
    }

    fn one_line(&self, seconds: f64, totals: &Totals, rates: Rates) -> String {
        let mut parts = vec![
            format!("{seconds:>7.1} s"),
            format!("connected {}/{}", grouped(totals.connected.unsigned_abs()), grouped(self.devices)),
        ];
        if totals.connecting > 0 {
            parts.push(format!("connecting {}", totals.connecting));
        }
        parts.push(format!("calls {} ({}/s)", grouped(totals.method_calls), per_second(rates.calls)));
        if !totals.answers.is_empty() {
            parts.push(format!("answers {}", listed(&totals.answers)));
        }
        parts.push(format!("reports {} ({}/s)", grouped(totals.reports), per_second(rates.reports)));
        parts.push(format!("desired {}", grouped(totals.desired_updates)));
        if !totals.errors.is_empty() {
            parts.push(format!("errors {}", causes(totals)));
        }
        parts.join("  ")
    }

    fn redraw(&mut self, seconds: f64, totals: &Totals, rates: Rates) -> Result {
        let dim = |text: &str| self.out.paint(Tone::Dim, format_args!("{text:<12}"));
        let connected = totals.connected.unsigned_abs();
        let bar = bar(connected, self.devices);
        let tone = if connected == self.devices { Tone::Good } else { Tone::Warn };
        let mut lines = vec![
            format!("{}  {}", self.out.paint(Tone::Bold, &self.title), clock(seconds)),
            format!(
                "{}{} {}/{}  {}",
                dim("connected"),
                self.out.paint(tone, bar),
                grouped(connected),
                grouped(self.devices),
                if totals.connecting > 0 {
                    format!("{} connecting, {}/s", totals.connecting, per_second(rates.connects))
                } else {
                    String::new()
                }
            ),
            format!(
                "{}{}  {}/s   {}",
                dim("calls"),
                grouped(totals.method_calls),
                per_second(rates.calls),
                listed(&totals.answers)
            ),
            format!("{}{}  {}/s", dim("reports"), grouped(totals.reports), per_second(rates.reports)),
            format!("{}{}", dim("desired"), grouped(totals.desired_updates)),
        ];
        if totals.leaves + totals.vanishes > 0 {
            lines.push(format!("{}{} left, {} vanished", dim("restless"), totals.leaves, totals.vanishes));
        }
        if !totals.errors.is_empty() {
            lines.push(format!("{}{}", dim("errors"), self.out.paint(Tone::Bad, causes(totals))));
        }
        self.clear()?;
        self.drawn = lines.len();
        // Without wrapping: a line that is too long for the terminal must not become two.
        self.out.line(format_args!("\x1b[?7l{}\x1b[?7h", lines.join("\n")))
    }

    /// Takes the block away from the terminal.
    pub fn clear(&mut self) -> Result {
        let drawn = std::mem::take(&mut self.drawn);
        if drawn == 0 {
            return Ok(());
        }
        // Up to the block's first line, and away with all below.
        self.out.raw(&format!("\x1b[{drawn}F\x1b[0J"))?;
        // Before anything is said on stderr.
        Ok(io::stdout().flush()?)
    }
}

fn facts(totals: &Totals, seconds: f64) -> Vec<(&'static str, String)> {
    let count = |n: u64| grouped(n);
    let mut facts = vec![
        ("ran", clock(seconds)),
        ("devices", format!("{} were connected", count(totals.ever_connected))),
        ("connections", count(totals.connects)),
        ("calls", count(totals.method_calls)),
        ("answers", listed(&totals.answers)),
        ("reports", count(totals.reports)),
        ("desired", count(totals.desired_updates)),
    ];
    if totals.reports_refused > 0 {
        facts.push(("refused", format!("{} reports", count(totals.reports_refused))));
    }
    if totals.leaves + totals.vanishes > 0 {
        facts.push(("restless", format!("{} left, {} vanished", totals.leaves, totals.vanishes)));
    }
    let errors = if totals.errors.is_empty() { "none".to_owned() } else { causes(totals) };
    facts.push(("errors", errors));
    facts
}

/// `200 × 9,900, 423 × 100`.
fn listed(answers: &BTreeMap<String, u64>) -> String {
    let parts: Vec<_> = answers.iter().map(|(status, n)| format!("{status} × {}", grouped(*n))).collect();
    parts.join(", ")
}

/// The most frequent first.
fn causes(totals: &Totals) -> String {
    let mut causes: Vec<_> = totals.causes.iter().collect();
    causes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let mut parts: Vec<_> = causes
        .iter()
        .take(SHOWN_CAUSES)
        .map(|(cause, count)| format!("{cause} × {}", grouped(**count)))
        .collect();
    if causes.len() > SHOWN_CAUSES {
        parts.push(format!("{} of other kinds", causes.len() - SHOWN_CAUSES));
    }
    parts.join(", ")
}

fn bar(part: u64, whole: u64) -> String {
    const WIDTH: u64 = 28;
    let full = (part * WIDTH).checked_div(whole).unwrap_or(0).min(WIDTH) as usize;
    format!("{}{}", "█".repeat(full), "░".repeat(WIDTH as usize - full))
}

fn per_second(rate: f64) -> String {
    if rate > 0.0 && rate < 10.0 {
        format!("{rate:.1}")
    } else {
        grouped(rate.round() as u64)
    }
}

/// `12,345`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn clock(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..=59 => format!("{seconds:.1} s"),
        60..=3599 => format!("{}:{:02} min", whole / 60, whole % 60),
        _ => format!("{}:{:02}:{:02} h", whole / 3600, whole / 60 % 60, whole % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{ColorChoice, Format};

    fn totals(calls: u64) -> Totals {
        let mut totals = Totals { connected: 9_990, method_calls: calls, ..Totals::default() };
        totals.answers.insert("200".to_owned(), calls);
        totals.errors.insert("tls", 3);
        totals.causes.insert(super::super::counters::Cause::Tls, 3);
        totals
    }

    #[test]
    fn a_line_tells_where_things_are() {
        let out = Out::new(Format::Human, ColorChoice::Never);
        let mut view = View::new(&out, 10_000, "t".to_owned());
        view.last = (1.0, totals(1_000));
        let rates = view.rates(2.0, &totals(3_500));
        let line = view.one_line(2.0, &totals(3_500), rates);
        assert_eq!(
            line,
            "    2.0 s  connected 9,990/10,000  calls 3,500 (2,500/s)  answers 200 × 3,500  reports 0 (0/s)  \
             desired 0  errors TLS failed × 3"
        );
    }

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(
            [grouped(0), grouped(999), grouped(1_000), grouped(1_234_567)],
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!([clock(4.26), clock(61.0), clock(3_661.0)], ["4.3 s", "1:01 min", "1:01:01 h"]);
        assert_eq!(bar(5, 10).chars().filter(|c| *c == '█').count(), 14);
        assert_eq!(bar(0, 0).chars().count(), 28);
    }

    #[test]
    fn scripts_get_stable_names() {
        let totals = totals(2);
        let sample = Sample {
            kind: "sample",
            seconds: 1.0,
            devices: 10_000,
            totals: &totals,
            method_calls_per_second: 2.0,
            reports_per_second: 0.0,
            connects_per_second: 0.0,
        };
        let text = serde_json::to_string(&sample).unwrap();
        for part in
            ["\"type\":\"sample\"", "\"methodCalls\":2", "\"answers\":{\"200\":2}", "\"errors\":{\"tls\":3}"]
        {
            assert!(text.contains(part), "{text}");
        }
    }
}
