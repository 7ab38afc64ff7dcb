//! What the simulated devices are and do: a scenario, read from TOML and checked.
//!
//! Must not know: sockets, clocks, hubs.
//!
//! Invariant: a [`Scenario`] can be played: every group has a share, every weight and probability is one, every value
//! renders to JSON.
//! Invariant: a mistake in a file is told with its line and, where it can be guessed, what was meant.

mod builtin;
mod file;

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;

use super::delay::Delay;
use super::template::Template;

pub use builtin::{Builtin, BUILTINS};
pub use file::{Connection, Firmware, Flap, Lie, OnDesired, Reboot, Slow, Vanish};

/// Largest scenario file, in bytes.
pub const MAX_FILE: usize = 1 << 20;
const MAX_GROUPS: usize = 64;
/// Of each kind, per group.
const MAX_PARTS: usize = 64;
/// How far ahead the golden ratio carries from device to device; see [`Scenario::group_of`].
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// A whole scenario.
#[derive(Debug)]
pub struct Scenario {
    /// One line for people; may be empty.
    pub description: String,
    pub seed: Option<u64>,
    pub devices: Option<u64>,
    pub prefix: Option<String>,
    pub connection: Connection,
    groups: Vec<(f64, Arc<Group>)>,
}

/// What some of the devices are and do.
#[derive(Debug)]
pub struct Group {
    pub name: String,
    pub tags: Template,
    pub desired: Template,
    /// Reported on the first connection; `None` if that is nothing.
    pub reported: Option<Template>,
    pub methods: Vec<Method>,
    pub reports: Vec<Report>,
    pub on_desired: Option<OnDesired>,
    pub reboot: Option<Reboot>,
    pub firmware: Option<Firmware>,
    pub flap: Option<Flap>,
    pub slow: Option<Slow>,
    pub lie: Option<Lie>,
    pub vanish: Option<Vanish>,
    /// Where counters and walks start.
    pub slots: Vec<f64>,
}

/// How a method is answered.
#[derive(Debug)]
pub struct Method {
    /// `*` for any.
    pub name: String,
    pub delay: Delay,
    /// Never empty.
    pub answers: Vec<Answer>,
    pub then_report: Option<Template>,
    /// Whether the payload of the call is looked at.
    pub uses_payload: bool,
}

/// One of the answers of a method.
#[derive(Debug)]
pub struct Answer {
    pub weight: f64,
    pub status: i32,
    /// `None` is no answer at all.
    pub payload: Option<Template>,
}

/// Properties reported on a schedule.
#[derive(Debug)]
pub struct Report {
    /// In ms, at least 1.
    pub every: u64,
    pub jitter: f64,
    pub properties: Template,
}

/// What is wrong with a scenario file.
#[derive(Debug, PartialEq, Eq)]
pub struct ScenarioError {
    pub line: usize,
    pub column: usize,
    pub message: String,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

impl Scenario {
    /// Reads a scenario.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        if text.len() > MAX_FILE {
            return Err(at(text, 0..0, format!("longer than {} KiB", MAX_FILE >> 10)));
        }
        let file: file::File = toml::from_str(text).map_err(|error| {
            let message = with_suggestion(error.message().trim_end().replace('\n', "; "));
            at(text, error.span().unwrap_or(0..0), message)
        })?;
        Self::check(file).map_err(|(span, message)| at(text, span, message))
    }

    fn check(mut file: file::File) -> Result<Self, Wrong> {
        let connection = file.connection.clone();
        if !(connection.rate > 0.0 && connection.rate <= 1e6) {
            return Err((
                0..0,
                "`connection.rate` must be above 0 and at most 1000000 per second".to_owned(),
            ));
        }
        if !(1_000..=1_177_000).contains(&connection.keep_alive.0) {
            return Err((0..0, "`connection.keep-alive` must be between 1s and 1177s".to_owned()));
        }
        if file.group.is_empty() || file.group.len() > MAX_GROUPS {
            return Err((0..0, format!("a scenario needs between 1 and {MAX_GROUPS} [[group]] tables")));
        }
        let mut names = HashSet::new();
        let mut groups = Vec::new();
        for written in std::mem::take(&mut file.group) {
            let (span, group) = (written.span(), written.into_inner());
            let wrong = |message: String| (span.clone(), message);
            if !names.insert(group.name.clone()) {
                return Err(wrong(format!("there are two groups `{}`", group.name)));
            }
            if !(group.share.is_finite() && group.share >= 0.0) {
                return Err(wrong("`share` must be a number, 0 or more".to_owned()));
            }
            groups.push((group.share, Arc::new(Group::check(group, &span)?)));
        }
        let total: f64 = groups.iter().map(|(share, _)| share).sum();
        if total <= 0.0 {
            return Err((0..0, "the shares of all groups are 0: no device would belong to any".to_owned()));
        }
        for (share, _) in &mut groups {
            *share /= total;
        }
        let file::File { description, seed, devices, prefix, .. } = file;
        Ok(Self { description, seed, devices, prefix, connection, groups })
    }

    /// The group of a device. Steps of the golden ratio spread the groups evenly over the devices: among any run of
    /// consecutive devices each group has its share, nearly, however many devices there are.
    pub fn group_of(&self, index: u64) -> &Arc<Group> {
        let mut place = (index as f64 * GOLDEN).fract();
        let mut chosen = &self.groups[0].1;
        for (share, group) in self.groups.iter().filter(|(share, _)| *share > 0.0) {
            chosen = group;
            if place < *share {
                break;
            }
            place -= share;
        }
        chosen
    }

    /// The names of the groups.
    pub fn group_names(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(|(_, group)| group.name.as_str())
    }
}

/// Where and what.
type Wrong = (Range<usize>, String);

impl Group {
    fn check(group: file::Group, span: &Range<usize>) -> Result<Self, Wrong> {
        let wrong = |what: &str, message: String| {
            (span.clone(), format!("group `{}`, {what}: {message}", group.name))
        };
        if group.method.len() > MAX_PARTS || group.report.len() > MAX_PARTS {
            return Err(wrong("methods and reports", format!("at most {MAX_PARTS} of each")));
        }
        let mut slots = Vec::new();
        let mut table = |what: &str, table: toml::Table| {
            Template::compile(&toml::Value::Table(table), &mut slots).map_err(|error| wrong(what, error))
        };
        let tags = table("tags", group.tags)?;
        let desired = table("desired", group.desired)?;
        let reported = table("reported", group.reported)?;
        let mut methods = Vec::new();
        for method in group.method {
            methods.push(Method::check(method, &group.name, &mut slots)?);
        }
        let mut reports = Vec::new();
        for report in group.report {
            reports.push(Report::check(report, &group.name, &mut slots)?);
        }
        let chances = [
            ("on-desired.ignore", group.on_desired.as_ref().map(|part| part.ignore)),
            ("firmware.fail-download", group.firmware.as_ref().map(|part| part.fail_download)),
            ("firmware.fail-apply", group.firmware.as_ref().map(|part| part.fail_apply)),
            ("flap.rude", group.flap.as_ref().map(|part| part.rude)),
            ("slow.probability", group.slow.as_ref().map(|part| part.probability)),
            ("lie.answers", group.lie.as_ref().map(|part| part.answers)),
            ("lie.reports", group.lie.as_ref().map(|part| part.reports)),
        ];
        for (name, chance) in chances {
            if chance.is_some_and(|chance| !(0.0..=1.0).contains(&chance)) {
                return Err(wrong(name, "a probability is between 0 and 1".to_owned()));
            }
        }
        let restless =
            [group.flap.as_ref().map(|part| part.every), group.vanish.as_ref().map(|part| part.every)];
        if restless.into_iter().flatten().any(Delay::is_none) {
            return Err(wrong("flap and vanish", "`every` must not be zero".to_owned()));
        }
        if group.lie.as_ref().is_some_and(|lie| lie.answers > 0.0 && lie.statuses.is_empty()) {
            return Err(wrong("lie.statuses", "must not be empty".to_owned()));
        }
        Ok(Self {
            name: group.name,
            tags,
            desired,
            reported: (reported != Template::empty()).then_some(reported),
            methods,
            reports,
            on_desired: group.on_desired,
            reboot: group.reboot,
            firmware: group.firmware,
            flap: group.flap,
            slow: group.slow,
            lie: group.lie,
            vanish: group.vanish,
            slots,
        })
    }

    /// The method of this name, or the one for all names, with its place.
    pub fn method(&self, name: &str) -> Option<(usize, &Method)> {
        let named = self.methods.iter().position(|method| method.name == name);
        let place = named.or_else(|| self.methods.iter().position(|method| method.name == "*"))?;
        Some((place, &self.methods[place]))
    }
}

impl Method {
    fn check(written: Spanned<file::Method>, group: &str, slots: &mut Vec<f64>) -> Result<Self, Wrong> {
        let (span, method) = (written.span(), written.into_inner());
        let wrong =
            |message: String| (span.clone(), format!("group `{group}`, method `{}`: {message}", method.name));
        let legal =
            !method.name.is_empty() && method.name.len() <= 100 && !method.name.contains(['/', '#', '+']);
        if !legal {
            return Err(wrong(
                "a method has a name of at most 100 characters without `/`, `#` and `+`".to_owned(),
            ));
        }
        let mut answers = Vec::new();
        for answer in method.answer {
            if !(answer.weight.is_finite() && answer.weight >= 0.0) {
                return Err(wrong("`weight` must be a number, 0 or more".to_owned()));
            }
            let payload = match (answer.silent, &answer.payload) {
                (true, _) => None,
                (false, None) => Some(Template::Text(b"null".as_slice().into())),
                (false, Some(value)) => Some(Template::compile(value, slots).map_err(&wrong)?),
            };
            answers.push(Answer { weight: answer.weight, status: answer.status, payload });
        }
        if answers.is_empty() {
            let payload = Some(Template::Text(b"null".as_slice().into()));
            answers.push(Answer { weight: 1.0, status: 200, payload });
        }
        if answers.iter().map(|answer| answer.weight).sum::<f64>() <= 0.0 {
            return Err(wrong("the weights of all answers are 0".to_owned()));
        }
        let report = !method.then_report.is_empty();
        let then_report =
            Template::compile(&toml::Value::Table(method.then_report), slots).map_err(|error| {
                (span.clone(), format!("group `{group}`, method `{}`, then-report: {error}", method.name))
            })?;
        let then_report = report.then_some(then_report);
        let uses_payload = answers
            .iter()
            .filter_map(|answer| answer.payload.as_ref())
            .chain(&then_report)
            .any(Template::uses_payload);
        Ok(Self { name: method.name, delay: method.delay, answers, then_report, uses_payload })
    }
}

impl Report {
    fn check(written: Spanned<file::Report>, group: &str, slots: &mut Vec<f64>) -> Result<Self, Wrong> {
        let (span, report) = (written.span(), written.into_inner());
        let wrong = |message: String| (span.clone(), format!("group `{group}`, report: {message}"));
        if report.every.0 == 0 {
            return Err(wrong("`every` must be at least 1ms".to_owned()));
        }
        if !(0.0..=1.0).contains(&report.jitter) {
            return Err(wrong("`jitter` is between 0 and 1".to_owned()));
        }
        if report.properties.is_empty() {
            return Err(wrong("`properties` is empty: there is nothing to report".to_owned()));
        }
        let properties = Template::compile(&toml::Value::Table(report.properties), slots).map_err(wrong)?;
        Ok(Self { every: report.every.0, jitter: report.jitter, properties })
    }
}

fn at(text: &str, span: Range<usize>, message: String) -> ScenarioError {
    let before = text.get(..span.start).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    let line = before.matches('\n').count() + 1;
    ScenarioError { line, column: before[line_start..].chars().count() + 1, message }
}

/// Adds the nearest of the words that the message lists to one about an unknown word.
fn with_suggestion(message: String) -> String {
    let mut words = message.split('`').skip(1).step_by(2);
    let Some(unknown) = words.next().filter(|_| message.starts_with("unknown ")) else { return message };
    let nearest = words.map(|word| (distance(unknown, word), word)).min_by_key(|(distance, _)| *distance);
    match nearest {
        Some((distance, word)) if distance <= 1 + unknown.len() / 3 => {
            let word = word.to_owned();
            format!("{message}; did you mean `{word}`?")
        }
        _ => message,
    }
}

/// How many characters differ (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replace = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
