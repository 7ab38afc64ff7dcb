//! Why a text is not a query: where, what was found, what was expected, what was probably meant.
//!
//! Must not know: how a door words its answer around it.
//!
//! Invariant: line and column are one-based and count characters (query §1).

use std::fmt;

/// A text that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The line, from 1.
    pub line: u32,
    /// The character in the line, from 1. In a condition as if `SELECT * FROM devices WHERE ` stood before it
    /// (query §11).
    pub column: u32,
    /// What was found and what was expected.
    pub message: Box<str>,
    /// The valid word nearest to the one that was found.
    pub suggestion: Option<Box<str>>,
    /// What to do about a common mistake.
    pub hint: Option<Box<str>>,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line {}:{} {}", self.line, self.column, self.message)?;
        if let Some(suggestion) = &self.suggestion {
            write!(f, "; did you mean {suggestion}?")?;
        }
        if let Some(hint) = &self.hint {
            let joint = if self.suggestion.is_some() { " " } else { "; " };
            write!(f, "{joint}{hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ParseError {}

/// A place in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub line: u32,
    pub column: u32,
}

impl Position {
    /// An error here.
    pub fn error(self, message: impl Into<Box<str>>) -> ParseError {
        ParseError {
            line: self.line,
            column: self.column,
            message: message.into(),
            suggestion: None,
            hint: None,
        }
    }
}

impl ParseError {
    pub(super) fn suggest(mut self, word: Option<&str>) -> ParseError {
        self.suggestion = word.map(Into::into);
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<Box<str>>) -> ParseError {
        self.hint = Some(hint.into());
        self
    }
}
