//! Text to tokens (query §2).
//!
//! Must not know: the grammar.
//!
//! Invariant: the text has at most [`QUERY_CHARS`] characters; every token knows where it began.

use super::error::{ParseError, Position};
use super::num::Num;
use super::words;
use crate::limits::QUERY_CHARS;
use std::str::Chars;

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A keyword or a name.
    Word(Box<str>),
    /// `[[name]]`
    Escaped(Box<str>),
    /// A number without sign; what was written.
    Number(Num, Box<str>),
    /// A string, read.
    Text(Box<str>),
    /// An operator or a delimiter.
    Symbol(&'static str),
    /// The end of the text.
    End,
}

impl Token {
    /// As a message shows it.
    pub fn shown(&self) -> String {
        match self {
            Token::Word(word) => format!("'{}'", shortened(word)),
            Token::Escaped(name) => format!("'[[{}]]'", shortened(name)),
            Token::Number(_, text) => format!("'{}'", shortened(text)),
            Token::Text(text) => format!("the string '{}'", shortened(text)),
            Token::Symbol(symbol) => format!("'{symbol}'"),
            Token::End => "the end of the text".to_owned(),
        }
    }
}

/// Messages go to people and logs: a long token is cut.
pub(super) fn shortened(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

/// Longest first, so that `<=` is not read as `<`.
const SYMBOLS: [&str; 18] =
    ["!=", "<>", "<=", ">=", "=", "<", ">", "+", "-", "*", "/", "%", "(", ")", "[", "]", ",", "."];

/// Reads all tokens; the last is [`Token::End`].
pub(super) fn tokens(text: &str, start: Position) -> Result<Vec<(Token, Position)>, ParseError> {
    let count = text.chars().count();
    if count > QUERY_CHARS {
        return Err(start.error(format!("the text has {count} characters, the limit is {QUERY_CHARS}")));
    }
    let mut lexer = Lexer { rest: text.chars(), at: start };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next()?;
        let end = token.0 == Token::End;
        tokens.push(token);
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    rest: Chars<'a>,
    at: Position,
}

impl<'a> Lexer<'a> {
    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        if c == '\n' {
            self.at = Position { line: self.at.line + 1, column: 1 };
        } else {
            self.at.column += 1;
        }
        Some(c)
    }

    fn skip(&mut self, chars: usize) {
        for _ in 0..chars {
            self.bump();
        }
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let from = self.rest.as_str();
        while self.peek().is_some_and(&keep) {
            self.bump();
        }
        &from[..from.len() - self.rest.as_str().len()]
    }

    fn next(&mut self) -> Result<(Token, Position), ParseError> {
        self.take_while(|c| matches!(c, ' ' | '\t' | '\r' | '\n'));
        let start = self.at;
        let token = match self.peek() {
            None => Token::End,
            Some(quote @ ('\'' | '"')) => Token::Text(self.string(quote, start)?),
            Some(c) if c.is_ascii_digit() => self.number(start)?,
            Some(c) if words::starts_name(c) => Token::Word(self.take_while(words::continues_name).into()),
            Some(_) if self.rest.as_str().starts_with("[[") => Token::Escaped(self.escaped(start)?),
            Some(c) => match SYMBOLS.iter().find(|symbol| self.rest.as_str().starts_with(**symbol)) {
                Some(symbol) => {
                    self.skip(symbol.len());
                    Token::Symbol(symbol)
                }
                None => return Err(stranger(c, self.rest.as_str(), start)),
            },
        };
        Ok((token, start))
    }

    fn escaped(&mut self, start: Position) -> Result<Box<str>, ParseError> {
        let rest = &self.rest.as_str()[2..];
        let Some(len) = rest.find("]]") else {
            return Err(start.error("'[[' without a closing ']]'").hint("write an escaped name as [[name]]"));
        };
        if len == 0 {
            return Err(start.error("an escaped name is empty"));
        }
        let name = &rest[..len];
        self.skip(name.chars().count() + 4);
        Ok(name.into())
    }

    fn number(&mut self, start: Position) -> Result<Token, ParseError> {
        let text = self.rest.as_str();
        let len = number_len(text);
        let (shown, behind) = text.split_at(len);
        if let Some(c) = behind.chars().next().filter(|c| words::continues_name(*c)) {
            let name: String = text.chars().take_while(|c| words::continues_name(*c)).collect();
            return Err(start
                .error(format!("'{c}' follows the number '{}' without a space", shortened(shown)))
                .hint(format!("a name that begins with a digit is written [[{}]]", shortened(&name))));
        }
        let num = match shown.strip_prefix("0x").or_else(|| shown.strip_prefix("0X")) {
            Some(digits) => i64::from_str_radix(digits, 16).ok().map(Num::Int),
            None => Num::parse_decimal(shown),
        };
        let Some(num) = num else {
            return Err(start.error(format!("the number '{}' is out of range", shortened(shown))));
        };
        self.skip(len);
        Ok(Token::Number(num, shown.into()))
    }

    fn string(&mut self, quote: char, start: Position) -> Result<Box<str>, ParseError> {
        self.bump();
        let mut text = String::new();
        loop {
            let at = self.at;
            match self.bump() {
                None => {
                    return Err(start.error(format!("the string that begins here has no closing {quote}")))
                }
                // A doubled quote stands for one: a current tool of Microsoft's writes it (query §2).
                Some(c) if c == quote => match self.peek() {
                    Some(next) if next == quote => {
                        self.bump();
                        text.push(quote);
                    }
                    _ => return Ok(text.into()),
                },
                Some('\\') => self.escape(at, &mut text)?,
                Some(c) => text.push(c),
            }
        }
    }

    /// What follows a backslash. Unknown sequences keep both characters (query §2).
    fn escape(&mut self, start: Position, text: &mut String) -> Result<(), ParseError> {
        match self.peek() {
            Some(c @ ('\'' | '"' | '\\')) => {
                self.bump();
                text.push(c);
            }
            Some('u') if hex4(&self.rest.as_str()[1..]).is_some() => {
                let half = || start.error("this \\u escape is half of a character");
                let unit = self.unit().ok_or_else(half)?;
                let code = match unit {
                    0xd800..=0xdbff => {
                        let low = self.low().ok_or_else(half)?;
                        0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
                    }
                    other => other,
                };
                text.push(char::from_u32(code).ok_or_else(half)?);
            }
            _ => text.push('\\'),
        }
        Ok(())
    }

    /// Reads `uXXXX`.
    fn unit(&mut self) -> Option<u32> {
        let value = self.rest.as_str().strip_prefix('u').and_then(hex4)?;
        self.skip(5);
        Some(value)
    }

    /// Reads the second half of a pair.
    fn low(&mut self) -> Option<u32> {
        let mut ahead = self.rest.clone();
        (ahead.next() == Some('\\')).then_some(())?;
        let value = ahead.as_str().strip_prefix('u').and_then(hex4)?;
        (0xdc00..=0xdfff).contains(&value).then(|| {
            self.skip(6);
            value
        })
    }
}

fn hex4(text: &str) -> Option<u32> {
    let digits = text.get(..4)?;
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

/// The bytes of the number that a text with a digit in front begins with.
fn number_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    if matches!(bytes, [b'0', b'x' | b'X', ..]) {
        let hex = bytes[2..].iter().take_while(|b| b.is_ascii_hexdigit()).count();
        if hex > 0 {
            return 2 + hex;
        }
    }
    let mut len = digits(0);
    if bytes.get(len) == Some(&b'.') && digits(len + 1) > 0 {
        len += 1 + digits(len + 1);
    }
    if matches!(bytes.get(len), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(len + 1), Some(b'+' | b'-')));
        let exponent = bytes.get(len + 1 + sign..).map_or(0, |_| digits(len + 1 + sign));
        if exponent > 0 {
            len += 1 + sign + exponent;
        }
    }
    len
}

/// A character that begins no token.
fn stranger(c: char, rest: &str, start: Position) -> ParseError {
    let error = start.error(format!("'{}' does not belong to the language", c.escape_debug()));
    match c {
        '&' => error.suggest(Some("AND")),
        '|' => error.suggest(Some("OR")),
        '!' => error.suggest(Some("NOT")),
        '‘' | '’' | '“' | '”' | '`' | '´' => {
            error.hint("strings stand in straight quotes: '…' or \"…\"")
        }
        ';' if rest.trim_end() == ";" => error.hint("leave the ';' at the end out"),
        '{' | '}' => error.hint("arrays are written ['a', 'b']"),
        _ if c.is_whitespace() || c == '\u{feff}' => error.hint("put a plain space in its place"),
        '@' | '#' | ':' | '?' | '~' | '^' | '\\' => {
            error.hint("a name with other characters is written [[name]]")
        }
        _ => error,
    }
}
