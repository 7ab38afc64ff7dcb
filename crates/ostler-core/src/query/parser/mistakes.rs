//! What to say where something unexpected stands: the common mistakes, and what to write instead.
//!
//! Must not know: how to read on after a mistake; the first one ends reading.

use super::super::error::ParseError;
use super::super::lexer::Token;
use super::super::words;
use super::super::Dialect;
use super::Parser;

/// Words that would be refused in strict mode, and are not suggested there.
const EXTENSIONS: [&str; 4] = ["LIKE", "ORDER", "LIMIT", "OFFSET"];

impl Parser {
    /// The error for the current token: `words` are those that would be valid here.
    pub(super) fn unexpected(&self, expected: &str, words: &[&str]) -> ParseError {
        let token = self.token();
        let error = self.position().error(format!("found {}, expected {expected}", token.shown()));
        let known = match token {
            Token::Word(word) => known(word),
            _ => None,
        };
        let nearest = match token {
            Token::Word(word) if known.is_none() => {
                words::nearest(word, words.iter().copied()).filter(|near| !near.eq_ignore_ascii_case(word))
            }
            _ => None,
        };
        match nearest {
            Some(near) if self.dialect == Dialect::Strict && EXTENSIONS.contains(&near) => {
                error.hint(format!("{near} is an extension, refused in strict mode"))
            }
            Some(near) => error.suggest(Some(near)),
            None => match self.mistake().or(known) {
                Some(hint) => error.hint(hint),
                None => error,
            },
        }
    }

    fn mistake(&self) -> Option<&'static str> {
        let before = self.at.checked_sub(1).and_then(|at| self.tokens.get(at)).map(|(token, _)| token);
        Some(match (before, self.token()) {
            (_, Token::Symbol("=")) => match before {
                Some(Token::Symbol("=")) => "equality is written with one '='",
                _ => "a value must stand before '='",
            },
            (Some(Token::Word(word)), Token::Symbol("(")) if is_in(word) => {
                "arrays stand in square brackets: IN ['a', 'b']"
            }
            (_, Token::Symbol("[")) => {
                "array elements have no index, ask ARRAY_CONTAINS(path, value); a name is escaped with two brackets"
            }
            (None, Token::Word(word)) if word.eq_ignore_ascii_case("SELECT") => {
                "a condition is only what stands behind WHERE"
            }
            (None, Token::Word(word)) if word.eq_ignore_ascii_case("WHERE") => {
                "a condition begins behind WHERE"
            }
            (None, Token::End) => "'*' stands for all",
            (Some(Token::Word(_)), Token::Word(word)) if known(word).is_none() && self.is_behind_collection() => {
                "a collection takes no other name: paths begin with tags, properties or a column"
            }
            (Some(Token::Word(before)), Token::Word(word))
                if known(word).is_none() && !words::is_reserved(before) =>
            {
                "text stands in quotes, names with other characters in [[ ]]"
            }
            (_, Token::Text(_)) if matches!(before, Some(Token::Word(_) | Token::Escaped(_))) => {
                "an operator such as '=' is missing before the string"
            }
            _ => return None,
        })
    }

    /// Whether the words before are `FROM` and a collection.
    fn is_behind_collection(&self) -> bool {
        let is = |back: usize, words: &[&str]| {
            let token = self.at.checked_sub(back).and_then(|at| self.tokens.get(at));
            matches!(token, Some((Token::Word(word), _)) if words.iter().any(|one| word.eq_ignore_ascii_case(one)))
        };
        is(1, &["DEVICES"]) && is(2, &["FROM"])
            || is(1, &["MODULES", "JOBS"]) && is(3, &["DEVICES"]) && is(4, &["FROM"])
    }
}

fn is_in(word: &str) -> bool {
    word.eq_ignore_ascii_case("IN") || word.eq_ignore_ascii_case("NIN")
}

/// Words that people try where they do not belong.
fn known(word: &str) -> Option<&'static str> {
    Some(match &*word.to_ascii_uppercase() {
        "BETWEEN" => "write x >= low AND x <= high",
        "IS" => "write IS_NULL(x), IS_DEFINED(x) or NOT IS_DEFINED(x)",
        "DISTINCT" => "distinct values come from GROUP BY",
        "HAVING" | "JOIN" | "UNION" | "CASE" | "EXISTS" => "the language has no such construct",
        "SELECT" => "the language has no sub-queries",
        "LIMIT" | "OFFSET" | "ORDER" | "WHERE" | "GROUP" | "FROM" => {
            "clauses stand in the order SELECT, FROM, WHERE, GROUP BY, ORDER BY, LIMIT, OFFSET, each once"
        }
        "AND" | "OR" | "NOT" | "IN" | "NIN" => "an operand is missing before it",
        _ => return None,
    })
}
