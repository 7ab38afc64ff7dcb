//! What a person sees: the frames of a program on a terminal.
//!
//! `script` (util-linux) gives the program a terminal; the few escape sequences that progress bars use are carried out on a
//! grid of characters. Where there is no `script`, there are no frames.
//!
//! Must not know: what the program shows.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const COLUMNS: usize = 108;
const ROWS: usize = 24;
/// How long the rest of the output is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the screen showed at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Since the recording started.
    pub at: Duration,
    /// Without trailing spaces, and without the empty lines at the end.
    pub lines: Vec<String>,
}

/// A program being watched.
pub struct Recording {
    frames: mpsc::Receiver<Vec<Frame>>,
    reader: Option<JoinHandle<()>>,
}

/// Runs a program on a terminal and records what it shows.
pub fn record(program: &Path, args: &[&str], data: &Path, started: Instant) -> Recording {
    let words =
        std::iter::once(program.display().to_string()).chain(args.iter().map(|arg| (*arg).to_owned()));
    let quoted: Vec<String> = words.map(|word| format!("'{word}'")).collect();
    let line = format!("stty cols {COLUMNS} rows {ROWS}; exec {}", quoted.join(" "));
    let spawned = Command::new("script")
        .args(["-q", "-f", "-c", &line, "/dev/null"])
        .env("OSTLER_DATA", data)
        .env("TERM", "xterm")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let (sender, frames) = mpsc::channel();
    let reader = spawned.ok().map(|mut child| {
        std::thread::spawn(move || {
            let mut frames = Vec::new();
            if let Some(mut pipe) = child.stdout.take() {
                let mut screen = Screen::default();
                let mut bytes = [0; 8192];
                while let Ok(length @ 1..) = pipe.read(&mut bytes) {
                    screen.feed(&bytes[..length]);
                    frames.push(Frame { at: started.elapsed(), lines: screen.lines() });
                }
            }
            child.wait().ok();
            sender.send(frames).ok();
        })
    });
    Recording { frames, reader }
}

impl Recording {
    /// The frames, once the program has ended.
    pub fn finish(self) -> Vec<Frame> {
        let Some(reader) = self.reader else { return Vec::new() };
        let frames = self.frames.recv_timeout(PATIENCE).unwrap_or_default();
        reader.join().ok();
        frames
    }
}

/// A grid of characters with a cursor.
#[derive(Default)]
struct Screen {
    grid: Vec<Vec<char>>,
    row: usize,
    column: usize,
    /// The beginning of an escape sequence or of a character.
    rest: Vec<u8>,
}

impl Screen {
    fn feed(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut self.rest);
        let valid = match std::str::from_utf8(&bytes) {
            Ok(text) => text,
            Err(error) => {
                let (whole, rest) = bytes.split_at(error.valid_up_to());
                // Anything longer than a character is no beginning of one.
                if rest.len() < 4 {
                    self.rest = rest.to_vec();
                }
                std::str::from_utf8(whole).unwrap_or_default()
            }
        };
        let mut left = valid;
        while let Some(c) = left.chars().next() {
            match c {
                '\x1b' => match escape_sequence(left) {
                    Some(sequence) => {
                        self.escape(sequence);
                        left = &left[sequence.len()..];
                        continue;
                    }
                    None => {
                        let mut rest = left.as_bytes().to_vec();
                        rest.append(&mut self.rest);
                        self.rest = rest;
                        return;
                    }
                },
                '\r' => self.column = 0,
                '\n' => self.row += 1,
                c if c.is_control() => {}
                c => self.put(c),
            }
            left = &left[c.len_utf8()..];
        }
    }

    fn put(&mut self, c: char) {
        if self.column >= COLUMNS {
            (self.row, self.column) = (self.row + 1, 0);
        }
        if self.grid.len() <= self.row {
            self.grid.resize(self.row + 1, Vec::new());
        }
        let line = &mut self.grid[self.row];
        if line.len() <= self.column {
            line.resize(self.column + 1, ' ');
        }
        line[self.column] = c;
        self.column += 1;
    }

    fn escape(&mut self, sequence: &str) {
        let Some(body) = sequence.strip_prefix("\x1b[") else { return };
        let (parameter, kind) = body.split_at(body.len() - 1);
        let number: usize = parameter.parse().unwrap_or(0);
        let by = number.max(1);
        match kind {
            "A" => self.row = self.row.saturating_sub(by),
            "B" => self.row += by,
            "C" => self.column += by,
            "D" => self.column = self.column.saturating_sub(by),
            "E" => (self.row, self.column) = (self.row + by, 0),
            "F" => (self.row, self.column) = (self.row.saturating_sub(by), 0),
            "G" => self.column = by - 1,
            "K" => {
                if let Some(line) = self.grid.get_mut(self.row) {
                    line.truncate(if number == 2 { 0 } else { self.column });
                }
            }
            "J" => {
                self.grid.truncate(self.row + 1);
                if let Some(line) = self.grid.get_mut(self.row) {
                    line.truncate(self.column);
                }
            }
            _ => {}
        }
    }

    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.grid.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned()).collect();
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines
    }
}

/// The escape sequence at the front; `None` if it is not whole.
fn escape_sequence(text: &str) -> Option<&str> {
    let Some(body) = text.strip_prefix("\x1b[") else {
        // Two characters, or the beginning of them.
        let end = text.char_indices().nth(1).map(|(at, c)| at + c.len_utf8())?;
        return if text.as_bytes().get(1) == Some(&b'[') { None } else { Some(&text[..end]) };
    };
    let end = body.find(|c: char| ('@'..='~').contains(&c))?;
    Some(&text[..end + 3])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(chunks: &[&[u8]], expected: &[&str]) {
        let mut screen = Screen::default();
        for chunk in chunks {
            screen.feed(chunk);
        }
        assert_eq!(screen.lines(), expected);
    }

    #[test]
    fn a_bar_is_drawn_over_itself() {
        check(
            &[b"\r\x1b[2Kone \xe2\x96\x88\r\n0 of 9", b"\r\x1b[2K\x1b[1A\r\x1b[2Ktwo\r\n9 of 9"],
            &["two", "9 of 9"],
        );
        check(&["ab\x1b[1mc\x1b[0m\x1b[?25l".as_bytes()], &["abc"]);
        check(&[b"gone\r\n\x1b[1F\x1b[0Jhere"], &["here"]);
    }

    #[test]
    fn a_full_line_wraps_with_the_next_character() {
        let full = "x".repeat(COLUMNS);
        check(&[full.as_bytes()], &[&full]);
        check(&[full.as_bytes(), b"y"], &[&full, "y"]);
    }

    #[test]
    fn sequences_and_characters_may_be_cut_anywhere() {
        let text = "x\x1b[2K\r█ é\x1b[1Dz".as_bytes();
        for cut in 0..text.len() {
            check(&[&text[..cut], &text[cut..]], &["█ z"]);
        }
    }
}
