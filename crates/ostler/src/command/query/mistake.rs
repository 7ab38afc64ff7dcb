//! Where a query is wrong, shown under its text.
//!
//! Must not know: the grammar; the hub says line and column.
//!
//! Invariant: text is shown only for a position that lies in it.

use ostler_service_sdk::Error;

use crate::exit::{Exit, Failure};
use crate::output::{printable, Out, Tone};

/// Characters of a long line shown on either side of a mistake.
const AROUND: usize = 60;

/// How the service begins what it says about a query that it cannot read.
const PREFIX: &str = "SQL query parse failed due to following errors:";

/// The hub's refusal; one that names a position is a mistake of who typed the query.
pub fn failure(error: Error, text: &str) -> Failure {
    let fault = error.fault().map(|fault| (fault.name.clone(), fault.message.clone()));
    let Some((code, message)) =
        fault.filter(|(_, message)| position(message).is_some_and(|at| at.is_in(text)))
    else {
        return error.into();
    };
    // An error is one line; the service's text for it is not.
    let told =
        message.strip_prefix(PREFIX).unwrap_or(&message).split_whitespace().collect::<Vec<_>>().join(" ");
    Failure::Told { exit: Exit::Usage, message: told, advice: None, code }
}

/// Shows the query with a caret under the mistake, for people.
pub fn point(failure: &Failure, text: &str, out: &Out) {
    let Failure::Told { message, .. } = failure else { return };
    point_at(message, text, out);
}

/// The same for words that the hub wrote down earlier.
pub fn point_at(message: &str, text: &str, out: &Out) {
    let Some(at) = position(message).filter(|at| at.is_in(text)) else { return };
    let (line, caret) = at.shown(text);
    out.note(format_args!("  {}\n  {}", printable(&line), out.paint_note(Tone::Bad, caret)));
}

/// The hub's refusal of a condition, shown under the query that the hub makes of it.
pub fn told(error: Error, condition: &str, out: &Out) -> Failure {
    let text = query_of(condition);
    let failure = failure(error, &text);
    point(&failure, &text, out);
    failure
}

/// The text in which the hub counts the positions of a condition (query §11).
pub fn query_of(condition: &str) -> String {
    let names_collection =
        condition.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("from"));
    if names_collection {
        condition.to_owned()
    } else {
        format!("SELECT * FROM devices WHERE {condition}")
    }
}

/// A place in a text, both counted from one, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    line: usize,
    column: usize,
}

/// The first `Line 3:14` of a message.
fn position(message: &str) -> Option<Position> {
    message.match_indices("Line ").chain(message.match_indices("line ")).find_map(|(at, _)| {
        let rest = &message[at + 5..];
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (line, rest) = rest.split_at(digits(rest));
        let rest = rest.strip_prefix(':')?;
        Some(Position { line: line.parse().ok()?, column: rest[..digits(rest)].parse().ok()? })
    })
}

impl Position {
    /// The end of a line is a position too: something is missing there.
    fn is_in(self, text: &str) -> bool {
        let line = self.line.checked_sub(1).and_then(|line| text.split('\n').nth(line));
        line.is_some_and(|line| (1..=line.chars().count() + 1).contains(&self.column))
    }

    /// The line, cut to what fits, and the caret under it.
    fn shown(self, text: &str) -> (String, String) {
        let line: Vec<char> = text.split('\n').nth(self.line - 1).unwrap_or_default().chars().collect();
        let at = self.column - 1;
        let (from, to) = (at.saturating_sub(AROUND), (at + AROUND).min(line.len()));
        let mut shown = String::new();
        let mut before = at - from;
        if from > 0 {
            shown.push('…');
            before += 1;
        }
        shown.extend(line[from..to].iter().map(|c| if *c == '\t' { ' ' } else { *c }));
        if to < line.len() {
            shown.push('…');
        }
        (shown, format!("{}^", " ".repeat(before)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_counted_as_the_query_it_stands_for() {
        let shown = |condition: &str, message: &str| {
            let text = query_of(condition);
            position(message).unwrap().shown(&text).1.len() - 1 - text.find("= =").unwrap()
        };
        assert_eq!(shown("tags.site = = 1", "Line 1:41 found"), 2);
        assert_eq!(shown("from devices.modules where tags.site = = 1", "Line 1:40 found"), 2);
    }

    #[test]
    fn the_caret_stands_under_the_mistake() {
        let check = |message: &str, text: &str, expected: &str| {
            let at = position(message).filter(|at| at.is_in(text)).map(|at| at.shown(text));
            assert_eq!(at.map_or(String::new(), |(line, caret)| format!("{line}\n{caret}")), expected);
        };
        check("failed: \n\tLine 1:3 x", "abcd", "abcd\n  ^");
        check("line 2:1", "ab\n\tcd", " cd\n^");
        check("Line 1:5", "abcd", "abcd\n    ^");
        check("Line 1:6", "abcd", "");
        check("Line 0:1", "abcd", "");
        check("Line 3:1", "ab\ncd", "");
        check("a line, and Line 9", "abcd", "");
        check("Line 1:2", "éü", "éü\n ^");
        let long = format!("{}X{}", "a".repeat(100), "b".repeat(100));
        let shown = format!("…{}X{}…\n{}^", "a".repeat(60), "b".repeat(59), " ".repeat(61));
        check("Line 1:101", &long, &shown);
    }
}
