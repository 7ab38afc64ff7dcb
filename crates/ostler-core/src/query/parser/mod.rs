//! Tokens to queries (query §3): recursive descent, one function a rule of the grammar.
//!
//! Must not know: what a query's answer is.
//!
//! Invariant: no rule calls itself deeper than [`QUERY_DEPTH`](crate::limits::QUERY_DEPTH), and no tree is higher.

mod condition;
mod mistakes;

use super::column::{Column, JOB_COLUMNS, TWIN_COLUMNS};
use super::error::{ParseError, Position};
use super::lexer::{self, Token};
use super::words;
use super::{Aggregate, Collection, Condition, Dialect, Direction, Item, Query, Select, What};
use crate::json::Key;

const START: Position = Position { line: 1, column: 1 };
/// Just behind `SELECT * FROM devices WHERE `, which the service puts in front of a condition (query §1).
const BEHIND_WHERE: Position = Position { line: 1, column: 29 };

/// Reads a whole query.
pub(super) fn query(text: &str, dialect: Dialect) -> Result<Query, ParseError> {
    let mut parser = Parser::new(text, START, dialect)?;
    parser.collection = parser.collection_ahead();
    let query = parser.query()?;
    let later =
        query.group_by.is_some() || !query.order_by.is_empty() || query.limit.or(query.offset).is_some();
    let expected = match query.condition {
        _ if later => "a later clause or the end of the query",
        None => "WHERE, another clause or the end of the query",
        Some(_) => "an operator, a clause or the end of the query",
    };
    parser.end(expected)?;
    Ok(query)
}

/// Reads what stands behind `WHERE`, or `*`.
pub(super) fn condition(text: &str, dialect: Dialect) -> Result<Condition, ParseError> {
    let mut parser = Parser::new(text, BEHIND_WHERE, dialect)?;
    if parser.skip_symbol("*") {
        parser.end("an operator or the end of the condition")?;
        return Ok(Condition(None));
    }
    let expr = parser.expr()?;
    parser.end("an operator or the end of the condition")?;
    Ok(Condition(Some(expr)))
}

/// Reads `from devices.modules where …`.
pub(super) fn modules_condition(text: &str, dialect: Dialect) -> Result<Condition, ParseError> {
    let mut parser = Parser::new(text, START, dialect)?;
    parser.collection = Collection::Modules;
    parser.expect_word("FROM", "'FROM devices.modules WHERE' and a condition")?;
    let at = parser.position();
    if parser.from()? != Collection::Modules {
        return Err(at.error("a condition for modules begins with FROM devices.modules"));
    }
    let expr = match parser.skip_word("WHERE") {
        true => Some(parser.expr()?),
        false => None,
    };
    parser.end("an operator or the end of the condition")?;
    Ok(Condition(expr))
}

/// Reads a path alone.
pub(super) fn column(text: &str) -> Result<Column, ParseError> {
    let mut parser = Parser::new(text, START, Dialect::Extended)?;
    let column = parser.path()?;
    parser.end("'.' or the end of the path")?;
    Ok(column)
}

struct Parser {
    tokens: Vec<(Token, Position)>,
    at: usize,
    dialect: Dialect,
    collection: Collection,
    depth: usize,
    text_calls: usize,
}

/// What reading a number of rows found.
type Count = u64;

impl Parser {
    fn new(text: &str, start: Position, dialect: Dialect) -> Result<Parser, ParseError> {
        let tokens = lexer::tokens(text, start)?;
        Ok(Parser { tokens, at: 0, dialect, collection: Collection::Devices, depth: 0, text_calls: 0 })
    }

    fn ahead(&self, steps: usize) -> &Token {
        // The last token is the end, and nothing steps over it.
        self.tokens.get(self.at + steps).map_or(&Token::End, |(token, _)| token)
    }

    fn token(&self) -> &Token {
        self.ahead(0)
    }

    fn position(&self) -> Position {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(START, |(_, position)| *position)
    }

    fn step(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len().saturating_sub(1));
    }

    fn is_word_ahead(&self, steps: usize, keyword: &str) -> bool {
        matches!(self.ahead(steps), Token::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    fn is_word(&self, keyword: &str) -> bool {
        self.is_word_ahead(0, keyword)
    }

    fn is_symbol_ahead(&self, steps: usize, symbol: &str) -> bool {
        matches!(self.ahead(steps), Token::Symbol(found) if *found == symbol)
    }

    fn is_symbol(&self, symbol: &str) -> bool {
        self.is_symbol_ahead(0, symbol)
    }

    fn skip_word(&mut self, keyword: &str) -> bool {
        let found = self.is_word(keyword);
        if found {
            self.step();
        }
        found
    }

    fn skip_symbol(&mut self, symbol: &str) -> bool {
        let found = self.is_symbol(symbol);
        if found {
            self.step();
        }
        found
    }

    fn expect_word(&mut self, keyword: &'static str, expected: &str) -> Result<(), ParseError> {
        match self.skip_word(keyword) {
            true => Ok(()),
            false => Err(self.unexpected(expected, &[keyword])),
        }
    }

    fn expect_symbol(&mut self, symbol: &str, expected: &str) -> Result<(), ParseError> {
        match self.skip_symbol(symbol) {
            true => Ok(()),
            false => Err(self.unexpected(expected, &[])),
        }
    }

    fn end(&self, expected: &str) -> Result<(), ParseError> {
        match self.token() {
            Token::End => Ok(()),
            _ => Err(self.unexpected(expected, &CLAUSES)),
        }
    }

    /// The collection that the query names: the select list before it is resolved by it. `FROM` is reserved, so
    /// the first such word is the clause.
    fn collection_ahead(&self) -> Collection {
        let from = (0..self.tokens.len()).find(|i| self.is_word_ahead(*i, "FROM")).unwrap_or(0);
        let member = self.is_word_ahead(from + 1, "DEVICES") && self.is_symbol_ahead(from + 2, ".");
        match member {
            true if self.is_word_ahead(from + 3, "MODULES") => Collection::Modules,
            true if self.is_word_ahead(from + 3, "JOBS") => Collection::Jobs,
            _ => Collection::Devices,
        }
    }

    fn query(&mut self) -> Result<Query, ParseError> {
        let at = self.position();
        let explain = self.skip_word("EXPLAIN");
        self.extension(explain, at, "EXPLAIN")?;
        self.expect_word("SELECT", "SELECT")?;
        let top = match self.skip_word("TOP") {
            true => Some(self.count("TOP", 1)?),
            false => None,
        };
        let listed = self.position();
        let (select, places) = self.select()?;
        self.expect_word("FROM", "',' or FROM")?;
        let from = self.from()?;
        let condition = match self.skip_word("WHERE") {
            true => Some(self.expr()?),
            false => None,
        };
        let grouped = self.position();
        let group_by = self.group_by()?;
        let mut query = Query {
            explain,
            select,
            top,
            from,
            condition,
            group_by,
            order_by: Vec::new(),
            limit: None,
            offset: None,
        };
        self.check_jobs(&query, listed, grouped)?;
        self.check_groups(&query, &places, listed)?;
        self.order_by(&mut query)?;
        self.limits(&mut query)?;
        Ok(query)
    }

    /// Refuses an extension in strict mode, as the service would.
    fn extension(&self, used: bool, at: Position, what: &str) -> Result<(), ParseError> {
        match used && self.dialect == Dialect::Strict {
            true => Err(at
                .error(format!("{what} is not part of the service's query language"))
                .hint("it is an extension, refused in strict mode")),
            false => Ok(()),
        }
    }

    fn count(&mut self, clause: &str, least: Count) -> Result<Count, ParseError> {
        let count = match self.token() {
            Token::Number(super::num::Num::Int(value), _) => Count::try_from(*value).ok(),
            _ => None,
        };
        match count.filter(|count| *count >= least) {
            Some(count) => {
                self.step();
                Ok(count)
            }
            None => Err(self.unexpected(&format!("a whole number from {least} after {clause}"), &[])),
        }
    }

    fn select(&mut self) -> Result<(Select, Vec<Position>), ParseError> {
        if self.skip_symbol("*") {
            return match self.is_symbol(",") {
                true => {
                    Err(self.position().error("'*' stands alone, other items cannot be selected beside it"))
                }
                false => Ok((Select::All, Vec::new())),
            };
        }
        let (mut items, mut places) = (Vec::new(), Vec::new());
        loop {
            places.push(self.position());
            items.push(self.item()?);
            if !self.skip_symbol(",") {
                return Ok((Select::Items(items), places));
            }
        }
    }

    fn item(&mut self) -> Result<Item, ParseError> {
        let called = self.is_symbol_ahead(1, "(");
        let what = match self.token() {
            Token::Word(word) if called => match Aggregate::find(word) {
                Some(aggregate) => self.aggregate(aggregate)?,
                None => {
                    let nearest = words::nearest(word, AGGREGATES);
                    return Err(self
                        .position()
                        .error(format!("'{}' cannot be selected", lexer::shortened(word)))
                        .suggest(nearest)
                        .hint("selected are paths, COUNT(), SUM, AVG, MIN and MAX; other functions stand behind WHERE"));
                }
            },
            // As a column with a bare alias it would be read as something that nobody means.
            Token::Word(word) if word.eq_ignore_ascii_case("DISTINCT") && self.is_operand_ahead(1) => {
                return Err(self.unexpected("'*', a path or an aggregate", &[]))
            }
            Token::Symbol("*") => {
                return Err(self
                    .position()
                    .error("'*' stands alone, it cannot be selected beside other items"))
            }
            Token::Word(_) | Token::Escaped(_) => What::Column(self.path()?),
            _ => return Err(self.unexpected("'*', a path or an aggregate", &AGGREGATES)),
        };
        Ok(Item { what, alias: self.alias()? })
    }

    fn aggregate(&mut self, aggregate: Aggregate) -> Result<What, ParseError> {
        self.step();
        self.step();
        let column = match aggregate {
            Aggregate::Count => {
                self.skip_symbol("*");
                if !self.is_symbol(")") {
                    return Err(self.unexpected("')'", &[]).hint(
                        "COUNT() counts rows; to count those that have a value add WHERE IS_DEFINED(…)",
                    ));
                }
                None
            }
            _ => Some(self.path()?),
        };
        self.expect_symbol(")", "')'")?;
        Ok(What::Aggregate(aggregate, column))
    }

    fn alias(&mut self) -> Result<Option<Key>, ParseError> {
        let named = self.skip_word("AS");
        let alias = match self.token() {
            Token::Escaped(name) => Some(Key::from(&**name)),
            // A keyword is a fine alias where `AS` says that one follows.
            Token::Word(word) if named && !word.eq_ignore_ascii_case("FROM") => Some(Key::from(&**word)),
            Token::Word(word) if !words::is_reserved(word) && !self.is_mistyped_from(word) => {
                Some(Key::from(&**word))
            }
            _ if named => return Err(self.unexpected("a name after AS", &[])),
            _ => None,
        };
        if alias.is_some() {
            self.step();
        }
        Ok(alias)
    }

    fn is_operand_ahead(&self, steps: usize) -> bool {
        match self.ahead(steps) {
            Token::Word(word) => !words::is_reserved(word) || Aggregate::find(word).is_some(),
            token => matches!(token, Token::Escaped(_) | Token::Symbol("*")),
        }
    }

    fn is_mistyped_from(&self, word: &str) -> bool {
        self.is_word_ahead(1, "DEVICES") && words::nearest(word, ["FROM"]).is_some()
    }

    fn from(&mut self) -> Result<Collection, ParseError> {
        if !self.skip_word("DEVICES") {
            return Err(self.unexpected("devices, devices.modules or devices.jobs", &["devices"]));
        }
        if !self.skip_symbol(".") {
            return Ok(Collection::Devices);
        }
        if self.skip_word("MODULES") {
            return Ok(Collection::Modules);
        }
        if self.skip_word("JOBS") {
            return Ok(Collection::Jobs);
        }
        Err(self.unexpected("modules or jobs", &["modules", "jobs"]))
    }

    fn group_by(&mut self) -> Result<Option<Column>, ParseError> {
        if !self.skip_word("GROUP") {
            return Ok(None);
        }
        self.expect_word("BY", "BY")?;
        let column = self.path()?;
        match self.is_symbol(",") {
            true => Err(self.position().error("GROUP BY takes one path")),
            false => Ok(Some(column)),
        }
    }

    /// Job rows can only be selected whole (query §9); the rest is an extension.
    fn check_jobs(&self, query: &Query, listed: Position, grouped: Position) -> Result<(), ParseError> {
        let jobs = query.from == Collection::Jobs;
        self.extension(jobs && query.select != Select::All, listed, "a projection of devices.jobs")?;
        self.extension(jobs && query.group_by.is_some(), grouped, "GROUP BY on devices.jobs")
    }

    /// Paths beside aggregates must be the one that is grouped by (query §8).
    fn check_groups(&self, query: &Query, places: &[Position], listed: Position) -> Result<(), ParseError> {
        if !query.is_grouped() {
            return Ok(());
        }
        let Select::Items(items) = &query.select else {
            return Err(
                listed.error("'*' cannot be selected with GROUP BY, name the path and the aggregates")
            );
        };
        for (item, place) in items.iter().zip(places) {
            match (&item.what, &query.group_by) {
                (What::Column(column), Some(group)) if column != group => {
                    let error =
                        place.error(format!("'{column}' is not what is grouped by, which is '{group}'"));
                    return Err(match items.iter().any(|item| item.alias.as_deref() == Some(group.text())) {
                        true => error.hint(format!("a name given with AS is no path: GROUP BY {column}")),
                        false => error,
                    });
                }
                (What::Column(column), None) => {
                    return Err(place
                        .error(format!("'{column}' stands beside an aggregate without being grouped by"))
                        .hint(format!("add GROUP BY {column}")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn order_by(&mut self, query: &mut Query) -> Result<(), ParseError> {
        let at = self.position();
        if !self.skip_word("ORDER") {
            return Ok(());
        }
        self.extension(true, at, "ORDER BY")?;
        self.expect_word("BY", "BY")?;
        loop {
            let place = self.position();
            if matches!(self.token(), Token::Word(word) if Aggregate::find(word).is_some()) {
                return Err(place
                    .error("ORDER BY takes paths, not aggregates")
                    .hint("name the aggregate in the select list, such as COUNT() AS n, and order by n"));
            }
            let column = query.behind_alias(self.path()?);
            if query.is_grouped() && query.group_by.as_ref() != Some(&column) && !query.is_aggregate(&column)
            {
                return Err(place
                    .error(format!("'{column}' is neither what is grouped by nor the name of an aggregate"))
                    .hint("grouped rows are ordered by their group or by what is selected of it, such as COUNT() AS n"));
            }
            let direction = match self.skip_word("DESC") {
                true => Direction::Descending,
                false => {
                    self.skip_word("ASC");
                    Direction::Ascending
                }
            };
            if query.order_by.len() == super::ORDER_COLUMNS {
                return Err(place.error(format!("ORDER BY takes at most {} paths", super::ORDER_COLUMNS)));
            }
            query.order_by.push((column, direction));
            if !self.skip_symbol(",") {
                return Ok(());
            }
        }
    }

    /// `LIMIT` and `OFFSET`, in either order.
    fn limits(&mut self, query: &mut Query) -> Result<(), ParseError> {
        loop {
            let at = self.position();
            if query.limit.is_none() && self.skip_word("LIMIT") {
                self.extension(true, at, "LIMIT")?;
                if query.top.is_some() {
                    return Err(at.error("TOP and LIMIT say the same, give one of them"));
                }
                query.limit = Some(self.count("LIMIT", 0)?);
            } else if query.offset.is_none() && self.skip_word("OFFSET") {
                self.extension(true, at, "OFFSET")?;
                query.offset = Some(self.count("OFFSET", 0)?);
            } else {
                return Ok(());
            }
        }
    }

    /// A path, its collection's prefix taken off (query §4).
    fn path(&mut self) -> Result<Column, ParseError> {
        let start = self.position();
        if self.is_word("DEVICES") && self.is_symbol_ahead(1, ".") {
            self.step();
            self.step();
            let member = self.is_word("MODULES") || self.is_word("JOBS");
            if member && self.is_symbol_ahead(1, ".") {
                self.step();
                self.step();
            }
        }
        let mut segments = Vec::new();
        loop {
            segments.push(self.segment(segments.is_empty())?);
            if !self.skip_symbol(".") {
                break;
            }
        }
        Column::resolve(self.collection, segments).ok_or_else(|| {
            start
                .error("devices.jobs has no columns of twins")
                .hint(format!("its columns are {}", JOB_COLUMNS.join(", ")))
        })
    }

    fn is_clause(&self, word: &str) -> bool {
        let grouped = ["GROUP", "ORDER"].iter().any(|clause| word.eq_ignore_ascii_case(clause));
        CLAUSE_WORDS.iter().any(|clause| word.eq_ignore_ascii_case(clause))
            || (grouped && self.is_word_ahead(1, "BY"))
    }

    fn segment(&mut self, first: bool) -> Result<Key, ParseError> {
        let name = match self.token() {
            Token::Escaped(name) => Key::from(&**name),
            Token::Word(word) if !words::is_reserved(word) => Key::from(&**word),
            Token::Word(word) if first && self.is_clause(word) => {
                return Err(self.unexpected("a path, a constant, a function or '('", &[]))
            }
            Token::Word(word) => {
                return Err(self
                    .unexpected("a name", &[])
                    .hint(format!("'{word}' is a word of the language: as a name write [[{word}]]")))
            }
            Token::Number(_, text) if !first => {
                return Err(self
                    .unexpected("a name", &[])
                    .hint(format!("a name that begins with a digit is written [[{text}]]")))
            }
            _ if first => return Err(self.unexpected("a path", TWIN_COLUMNS)),
            _ => return Err(self.unexpected("a name after '.'", &[])),
        };
        self.step();
        Ok(name)
    }
}

/// Words that stand where a path should: rather something is missing than a name unescaped.
const CLAUSE_WORDS: [&str; 9] = ["SELECT", "FROM", "WHERE", "AND", "OR", "NOT", "IN", "NIN", "AS"];

const AGGREGATES: [&str; 5] = ["COUNT", "SUM", "AVG", "MIN", "MAX"];

/// What may follow an expression.
const CLAUSES: [&str; 10] = ["AND", "OR", "IN", "NIN", "LIKE", "WHERE", "GROUP", "ORDER", "LIMIT", "OFFSET"];

#[cfg(test)]
mod tests;
