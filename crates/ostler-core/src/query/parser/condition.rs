//! The rules of expressions, loosest first: OR, AND, NOT, comparisons and IN, sums, products, signs.
//!
//! Must not know: clauses of queries.

use super::super::error::{ParseError, Position};
use super::super::expr::{Comparison, Expr, Literal, Operation};
use super::super::function::{Found, Function, TEXT_CALLS};
use super::super::lexer::{shortened, Token};
use super::super::list::List;
use super::super::num::Num;
use super::super::pattern::{Pattern, PATTERN_CHARS};
use super::super::words;
use super::super::Aggregate;
use super::Parser;
use crate::limits::QUERY_DEPTH;

/// An expression and the height of its tree.
struct Term {
    expr: Expr,
    height: usize,
}

impl Term {
    fn leaf(expr: Expr) -> Term {
        Term { expr, height: 1 }
    }
}

const LITERALS: [&str; 4] = ["true", "false", "null", "undefined"];

impl Parser {
    pub(super) fn expr(&mut self) -> Result<Expr, ParseError> {
        self.or().map(|term| term.expr)
    }

    /// Runs a rule one level deeper.
    fn deeper(&mut self, rule: fn(&mut Parser) -> Result<Term, ParseError>) -> Result<Term, ParseError> {
        if self.depth == QUERY_DEPTH {
            return Err(too_deep(self.position()));
        }
        self.depth += 1;
        let term = rule(self);
        self.depth -= 1;
        term
    }

    fn or(&mut self) -> Result<Term, ParseError> {
        self.chain("OR", Parser::and, Expr::Or)
    }

    fn and(&mut self) -> Result<Term, ParseError> {
        self.chain("AND", Parser::not, Expr::And)
    }

    fn chain(
        &mut self,
        word: &str,
        part: fn(&mut Parser) -> Result<Term, ParseError>,
        make: fn(Vec<Expr>) -> Expr,
    ) -> Result<Term, ParseError> {
        let first = part(self)?;
        if !self.is_word(word) {
            return Ok(first);
        }
        let at = self.position();
        let (mut height, mut parts) = (first.height, vec![first.expr]);
        while self.skip_word(word) {
            let next = part(self)?;
            height = height.max(next.height);
            parts.push(next.expr);
        }
        grown(make(parts), height, at)
    }

    fn not(&mut self) -> Result<Term, ParseError> {
        let at = self.position();
        if !self.skip_word("NOT") {
            return self.comparison();
        }
        let inner = self.deeper(Parser::not)?;
        grown(Expr::Not(Box::new(inner.expr)), inner.height, at)
    }

    fn comparison(&mut self) -> Result<Term, ParseError> {
        let left = self.sum()?;
        let at = self.position();
        if let Some(op) = self.comparison_ahead() {
            self.step();
            let right = self.sum()?;
            if self.comparison_ahead().is_some() {
                return Err(self
                    .unexpected("AND, OR or the end", &[])
                    .hint("comparisons do not chain: write a < b AND b < c"));
            }
            let height = left.height.max(right.height);
            let (left, right) = (Box::new(left.expr), Box::new(right.expr));
            return grown(Expr::Compare { op, left, right }, height, at);
        }
        let negated = self.is_word("NOT");
        let word = usize::from(negated);
        if self.is_word_ahead(word, "IN") || self.is_word("NIN") {
            let negated = negated || self.is_word("NIN");
            self.at += word + 1;
            let list = self.list("an array such as ['a', 'b'] after IN")?;
            return grown(Expr::In { value: Box::new(left.expr), list, negated }, left.height, at);
        }
        if self.is_word_ahead(word, "LIKE") {
            self.extension(true, at, "LIKE")?;
            self.at += word + 1;
            let pattern = self.pattern()?;
            return grown(Expr::Like { value: Box::new(left.expr), pattern, negated }, left.height, at);
        }
        Ok(left)
    }

    fn comparison_ahead(&self) -> Option<Comparison> {
        Some(match self.token() {
            Token::Symbol("=") => Comparison::Equal,
            Token::Symbol("!=" | "<>") => Comparison::NotEqual,
            Token::Symbol("<") => Comparison::Less,
            Token::Symbol("<=") => Comparison::LessOrEqual,
            Token::Symbol(">") => Comparison::Greater,
            Token::Symbol(">=") => Comparison::GreaterOrEqual,
            _ => return None,
        })
    }

    fn pattern(&mut self) -> Result<Pattern, ParseError> {
        let Token::Text(text) = self.token() else {
            return Err(self.unexpected("a pattern in quotes after LIKE", &[]));
        };
        let pattern = Pattern::new(text).ok_or_else(|| {
            self.position().error(format!("the pattern has more than {PATTERN_CHARS} characters"))
        })?;
        self.step();
        Ok(pattern)
    }

    fn sum(&mut self) -> Result<Term, ParseError> {
        let mut left = self.product()?;
        loop {
            let op = match self.token() {
                Token::Symbol("+") => Operation::Add,
                Token::Symbol("-") => Operation::Subtract,
                _ => return Ok(left),
            };
            left = self.operation(op, left, Parser::product)?;
        }
    }

    fn product(&mut self) -> Result<Term, ParseError> {
        let mut left = self.signed()?;
        loop {
            let op = match self.token() {
                Token::Symbol("*") => Operation::Multiply,
                Token::Symbol("/") => Operation::Divide,
                Token::Symbol("%") => Operation::Remainder,
                _ => return Ok(left),
            };
            left = self.operation(op, left, Parser::signed)?;
        }
    }

    fn operation(
        &mut self,
        op: Operation,
        left: Term,
        part: fn(&mut Parser) -> Result<Term, ParseError>,
    ) -> Result<Term, ParseError> {
        let at = self.position();
        self.step();
        let right = part(self)?;
        let height = left.height.max(right.height);
        grown(Expr::Arithmetic { op, left: Box::new(left.expr), right: Box::new(right.expr) }, height, at)
    }

    fn signed(&mut self) -> Result<Term, ParseError> {
        let at = self.position();
        let minus = self.is_symbol("-");
        if !minus && !self.is_symbol("+") {
            return self.primary();
        }
        self.step();
        if let Some(num) = self.number(minus)? {
            return Ok(Term::leaf(Expr::Literal(Literal::Number(num))));
        }
        let inner = self.primary()?;
        let make = if minus { Expr::Minus } else { Expr::Plus };
        grown(make(Box::new(inner.expr)), inner.height, at)
    }

    /// A number, its sign read already: the smallest integer has no positive counterpart.
    fn number(&mut self, minus: bool) -> Result<Option<Num>, ParseError> {
        let Token::Number(num, text) = self.token() else { return Ok(None) };
        let num = match (minus, *num) {
            (false, num) => num,
            (true, Num::Int(value)) => Num::Int(-value),
            (true, Num::Float(value)) => {
                Num::parse_decimal(&format!("-{text}")).unwrap_or(Num::Float(-value))
            }
        };
        self.step();
        Ok(Some(num))
    }

    fn primary(&mut self) -> Result<Term, ParseError> {
        if let Some(literal) = self.literal()? {
            return Ok(Term::leaf(Expr::Literal(literal)));
        }
        match self.token() {
            Token::Symbol("(") => {
                self.step();
                let inner = self.deeper(Parser::or)?;
                self.expect_symbol(")", "an operator or ')'")?;
                Ok(inner)
            }
            Token::Symbol("[") => Ok(Term::leaf(Expr::List(self.list("an array")?))),
            Token::Word(word) if self.is_symbol_ahead(1, "(") => {
                let function = self.function(word)?;
                self.call(function)
            }
            Token::Word(_) | Token::Escaped(_) => Ok(Term::leaf(Expr::Column(self.path()?))),
            _ => Err(self.unexpected("a path, a constant, a function or '('", &LITERALS)),
        }
    }

    /// A constant without sign.
    fn literal(&mut self) -> Result<Option<Literal>, ParseError> {
        let literal = match self.token() {
            Token::Number(num, _) => Literal::Number(*num),
            Token::Text(text) => Literal::Text(text.clone()),
            Token::Word(_) if self.is_symbol_ahead(1, "(") => return Ok(None),
            Token::Word(word) => match &*word.to_ascii_lowercase() {
                "true" => Literal::Bool(true),
                "false" => Literal::Bool(false),
                "null" => Literal::Null,
                "undefined" => Literal::Undefined,
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        self.step();
        Ok(Some(literal))
    }

    fn list(&mut self, expected: &str) -> Result<List, ParseError> {
        if !self.is_symbol("[") {
            return Err(self.unexpected(expected, &[]));
        }
        self.step();
        let mut items = Vec::new();
        if self.skip_symbol("]") {
            return Ok(List::new(items));
        }
        loop {
            let minus = self.is_symbol("-");
            if minus || self.is_symbol("+") {
                self.step();
                match self.number(minus)? {
                    Some(num) => items.push(Literal::Number(num)),
                    None => return Err(self.unexpected("a number after the sign", &[])),
                }
            } else {
                match self.literal()? {
                    Some(literal) => items.push(literal),
                    None => {
                        return Err(self
                            .unexpected("a constant", &LITERALS)
                            .hint("an array holds constants: numbers, strings in quotes, true, false, null"))
                    }
                }
            }
            if !self.skip_symbol(",") {
                break;
            }
        }
        self.expect_symbol("]", "',' or ']'")?;
        Ok(List::new(items))
    }

    fn function(&self, name: &str) -> Result<Function, ParseError> {
        let at = self.position();
        match Function::find(name, self.dialect) {
            Found::Function(function) => Ok(function),
            Found::Extension(function) if function.is_extension() => {
                self.extension(true, at, function.name()).map(|()| function)
            }
            Found::Extension(function) => Err(at
                .error(format!("there is no function {}", shortened(name)))
                .suggest(Some(function.name()))
                .hint("in strict mode only the service's spelling counts")),
            Found::Unknown if Aggregate::find(name).is_some() => {
                Err(at.error(format!("{name} stands only in the select list, not in a condition")))
            }
            Found::Unknown if words::is_reserved(name) => Err(self.unexpected("an operand", &[])),
            Found::Unknown => Err(at
                .error(format!("there is no function {}", shortened(name)))
                .suggest(words::nearest(name, Function::all().map(Function::name)))),
        }
    }

    fn call(&mut self, function: Function) -> Result<Term, ParseError> {
        let at = self.position();
        self.step();
        self.step();
        let (mut arguments, mut height) = (Vec::new(), 0);
        if !self.is_symbol(")") {
            loop {
                let argument = self.deeper(Parser::or)?;
                height = height.max(argument.height);
                arguments.push(argument.expr);
                if !self.skip_symbol(",") {
                    break;
                }
            }
        }
        self.expect_symbol(")", "',' or ')'")?;
        let allowed = function.arguments();
        if !allowed.contains(&arguments.len()) {
            let takes = match (*allowed.start(), *allowed.end()) {
                (1, 1) => "1 argument".to_owned(),
                (least, usize::MAX) => format!("at least {least} argument"),
                (least, most) if least == most => format!("{least} arguments"),
                (least, most) => format!("{least} to {most} arguments"),
            };
            return Err(at.error(format!("{} takes {takes}, not {}", function.name(), arguments.len())));
        }
        self.text_calls += usize::from(function.makes_text());
        if self.text_calls > TEXT_CALLS {
            return Err(at.error(format!("more than {TEXT_CALLS} calls of functions that make texts")));
        }
        grown(Expr::Call { function, arguments }, height, at)
    }
}

fn grown(expr: Expr, height: usize, at: Position) -> Result<Term, ParseError> {
    match height < QUERY_DEPTH {
        true => Ok(Term { expr, height: height + 1 }),
        false => Err(too_deep(at)),
    }
}

fn too_deep(at: Position) -> ParseError {
    at.error(format!("nested deeper than {QUERY_DEPTH} levels")).hint(
        "parts joined by AND or OR need no parentheses of their own, and long lists are written with IN",
    )
}
