//! What goes to stdout and stderr: human text with colours on terminals only, or JSON.
//!
//! Must not know: hubs, commands.
//!
//! Invariant: stdout carries results and nothing else; notes, progress and errors go to stderr.
//! Invariant: no escape sequence goes to anything but a terminal, unless colours were asked for.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{presets, Attribute, Cell, Color, ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use ostler_service_sdk::Error;
use serde::Serialize;
use serde_json::json;

use crate::exit::{Exit, Failure, Result};

/// The form of results. No help on the values: it would take half a screen of every `--help`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    #[value(alias = "table")]
    Human,
    Json,
    Csv,
}

/// When to colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    #[default]
    Auto,
    Always,
    Never,
}

/// A meaning, shown as a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Good,
    Bad,
    Warn,
    Accent,
    Dim,
    Bold,
}

impl Tone {
    fn escape(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Bad => "31",
            Self::Warn => "33",
            Self::Accent => "36",
            Self::Dim => "2",
            Self::Bold => "1",
        }
    }

    fn apply(self, cell: Cell) -> Cell {
        match self {
            Self::Good => cell.fg(Color::DarkGreen),
            Self::Bad => cell.fg(Color::DarkRed),
            Self::Warn => cell.fg(Color::DarkYellow),
            Self::Accent => cell.fg(Color::DarkCyan),
            Self::Dim => cell.add_attribute(Attribute::Dim),
            Self::Bold => cell.add_attribute(Attribute::Bold),
        }
    }
}

/// Where a command writes.
#[derive(Debug, Clone, Copy)]
pub struct Out {
    pub format: Format,
    colors: bool,
    error_colors: bool,
}

impl Out {
    pub fn new(format: Format, choice: ColorChoice) -> Self {
        let wanted = |terminal: bool| match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && environment_likes_color(),
        };
        Self {
            format,
            colors: wanted(io::stdout().is_terminal()),
            error_colors: wanted(io::stderr().is_terminal()),
        }
    }

    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// `text` in a colour, where colours are shown.
    pub fn paint(&self, tone: Tone, text: impl std::fmt::Display) -> String {
        paint(self.colors, tone, text)
    }

    /// The same for a note on stderr.
    pub fn paint_note(&self, tone: Tone, text: impl std::fmt::Display) -> String {
        paint(self.error_colors, tone, text)
    }

    /// One line on stdout.
    pub fn line(&self, text: impl std::fmt::Display) -> Result {
        Ok(writeln!(io::stdout().lock(), "{text}")?)
    }

    /// Text on stdout as it is.
    pub fn raw(&self, text: &str) -> Result {
        Ok(io::stdout().lock().write_all(text.as_bytes())?)
    }

    /// One indented JSON document on stdout.
    pub fn json<T: Serialize + ?Sized>(&self, value: &T) -> Result {
        let mut text = serde_json::to_string_pretty(value)?;
        text.push('\n');
        self.raw(&text)
    }

    /// One line of JSON on stdout, flushed, for streams.
    pub fn json_line<T: Serialize + ?Sized>(&self, value: &T) -> Result {
        let mut text = serde_json::to_string(value)?;
        text.push('\n');
        self.raw(&text)
    }

    /// A document as JSON, or whatever `human` prints.
    pub fn show<T: Serialize + ?Sized>(&self, value: &T, human: impl FnOnce(&Self) -> Result) -> Result {
        match self.format {
            Format::Json => self.json(value),
            Format::Human | Format::Csv => human(self),
        }
    }

    /// A remark on stderr; silent for scripts, which read the result instead.
    pub fn note(&self, text: impl std::fmt::Display) {
        if !self.is_json() {
            // Nobody is left to be told when stderr is gone.
            let _ = writeln!(io::stderr().lock(), "{text}");
        }
    }

    /// A warning on stderr, also for scripts.
    pub fn warn(&self, text: impl std::fmt::Display) {
        let label = paint(self.error_colors, Tone::Warn, "warning:");
        let _ = writeln!(io::stderr().lock(), "{label} {text}");
    }

    /// The last words of a command that failed.
    pub fn error(&self, failure: &Failure) {
        let Failure::Told { exit, message, advice, code } = failure else { return };
        let mut stderr = io::stderr().lock();
        let _ = if self.is_json() {
            let body = json!({ "error": {
                "exitCode": *exit as u8, "code": code, "message": message, "advice": advice,
            } });
            writeln!(stderr, "{body}")
        } else {
            let label = paint(self.error_colors, Tone::Bad, "error:");
            let message = message.trim_end_matches('.');
            match advice {
                Some(advice) => writeln!(stderr, "{label} {message}. {advice}."),
                None => writeln!(stderr, "{label} {message}"),
            }
        };
    }

    /// A table with a header; cells carry their tone.
    pub fn table(
        &self,
        header: &[&str],
        rows: impl IntoIterator<Item = Vec<(String, Option<Tone>)>>,
    ) -> Result {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        if self.colors {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        // Some terminals do not know their width and say 0; cells must not be cut to that.
        if io::stdout().is_terminal() && table.width().is_some_and(|width| width > 0) {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        if !header.is_empty() {
            table.set_header(header.iter().map(|title| Tone::Bold.apply(Cell::new(title))));
        }
        for row in rows {
            table.add_row(row.into_iter().map(|(text, tone)| {
                let cell = Cell::new(printable(&text));
                tone.map_or(cell.clone(), |tone| tone.apply(cell))
            }));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        self.line(table.trim_fmt())
    }

    /// Names and values, one pair per line.
    pub fn pairs(&self, pairs: impl IntoIterator<Item = (&'static str, String)>) -> Result {
        self.table(
            &[],
            pairs.into_iter().map(|(name, value)| vec![(name.to_owned(), Some(Tone::Dim)), (value, None)]),
        )
    }

    /// A bar on stderr, on terminals only. Without a total it only counts.
    pub fn progress(&self, total: Option<u64>, what: &'static str) -> ProgressBar {
        if self.is_json() || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let template = match total {
            Some(_) => "{msg} {bar:32} {human_pos}/{human_len} {rate} {left}",
            None => "{msg} {spinner} {human_pos} {rate}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            let style = style.with_key("rate", |state: &ProgressState, text: &mut dyn std::fmt::Write| {
                let _ = write!(text, "{:.0}/s", state.per_sec());
            });
            let style = style.with_key("left", |state: &ProgressState, text: &mut dyn std::fmt::Write| {
                // Nothing can be told before there is a rate.
                if state.per_sec() > 0.0 {
                    let _ = write!(text, "{} s", state.eta().as_secs());
                }
            });
            bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
        }
        bar.set_message(what);
        bar
    }
}

/// NO_COLOR counts when it is set and not empty (no-color.org); a dumb terminal knows no escapes.
fn environment_likes_color() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn paint(colors: bool, tone: Tone, text: impl std::fmt::Display) -> String {
    if colors {
        format!("\x1b[{}m{text}\x1b[0m", tone.escape())
    } else {
        text.to_string()
    }
}

/// Replaces control characters, so that text from a device cannot drive the terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// Deletes things by their ids, one after the other. One that cannot be deleted is told and does not save the
/// others; if it was the only one, its failure is the command's.
pub async fn delete_each<I: Display>(
    ids: &[I],
    out: &Out,
    delete: impl AsyncFn(&I) -> std::result::Result<(), Error>,
) -> Result {
    let mut failed = 0;
    let mut deleted = Vec::new();
    for id in ids {
        match delete(id).await {
            Ok(()) => {
                out.note(format_args!("deleted {id}"));
                deleted.push(id.to_string());
            }
            Err(error) if ids.len() == 1 => return Err(error.into()),
            Err(error) => {
                failed += 1;
                out.warn(format_args!("{id}: {error}"));
            }
        }
    }
    out.show(&json!({ "deleted": deleted }), |_| Ok(()))?;
    some_failed(failed)
}

/// Ends a command whose part failures have been listed.
pub fn some_failed(failed: u64) -> Result {
    if failed == 0 {
        Ok(())
    } else {
        Err(Failure::Silent(Exit::Failed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_drive_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\u{9b}c\r"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}");
    }

    #[test]
    fn colors_only_where_asked() {
        assert_eq!(paint(false, Tone::Bad, "x"), "x");
        assert_eq!(paint(true, Tone::Bad, "x"), "\x1b[31mx\x1b[0m");
    }
}
