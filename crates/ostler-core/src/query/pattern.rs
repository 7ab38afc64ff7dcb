//! Patterns of `LIKE`, compiled once: `%` stands for any text, `_` for any one character, `\` takes the next
//! character as it is.
//!
//! Must not know: the value's source.
//!
//! Invariant: matching takes at most (characters of the text) times (characters of the pattern) steps, and the
//! latter are at most `PATTERN_CHARS`.

/// Characters of a pattern.
pub const PATTERN_CHARS: usize = 256;

/// A compiled pattern. Equal by its text.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Box<str>,
    shape: Shape,
}

/// The usual shapes need no walk.
#[derive(Clone, Debug)]
enum Shape {
    Exact(Box<str>),
    Prefix(Box<str>),
    Suffix(Box<str>),
    Part(Box<str>),
    Steps(Box<[Step]>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Is(char),
    AnyOne,
    AnyText,
}

impl Pattern {
    /// Compiles a pattern; `None` when it has more than `PATTERN_CHARS` characters.
    pub fn new(text: &str) -> Option<Pattern> {
        (text.chars().count() <= PATTERN_CHARS).then(|| Pattern { text: text.into(), shape: compile(text) })
    }

    /// The pattern as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text that every match begins with, as far as it is fixed.
    pub fn prefix(&self) -> &str {
        match &self.shape {
            Shape::Exact(text) | Shape::Prefix(text) => text,
            _ => "",
        }
    }

    /// Whether a text looks like it.
    pub fn matches(&self, text: &str) -> bool {
        match &self.shape {
            Shape::Exact(exact) => text == &**exact,
            Shape::Prefix(prefix) => text.starts_with(&**prefix),
            Shape::Suffix(suffix) => text.ends_with(&**suffix),
            Shape::Part(part) => text.contains(&**part),
            Shape::Steps(steps) => walk(steps, text),
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

fn compile(text: &str) -> Shape {
    let mut steps = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let step = match c {
            '%' => Step::AnyText,
            '_' => Step::AnyOne,
            '\\' => Step::Is(chars.next().unwrap_or('\\')),
            other => Step::Is(other),
        };
        if step != Step::AnyText || steps.last() != Some(&Step::AnyText) {
            steps.push(step);
        }
    }
    match steps.as_slice() {
        [Step::AnyText, middle @ .., Step::AnyText] => plain(middle).map(Shape::Part),
        [Step::AnyText, rest @ ..] => plain(rest).map(Shape::Suffix),
        [start @ .., Step::AnyText] => plain(start).map(Shape::Prefix),
        all => plain(all).map(Shape::Exact),
    }
    .unwrap_or_else(|| Shape::Steps(steps.into()))
}

/// The text of steps that are characters only.
fn plain(steps: &[Step]) -> Option<Box<str>> {
    let text: Option<String> = steps
        .iter()
        .map(|step| match step {
            Step::Is(c) => Some(*c),
            _ => None,
        })
        .collect();
    text.map(String::into_boxed_str)
}

/// Greedy: only the latest `%` is ever tried again, at the next character.
fn walk(steps: &[Step], text: &str) -> bool {
    let mut step = 0;
    let mut rest = text.chars();
    let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
    loop {
        let before = rest.clone();
        let fits = match (steps.get(step), rest.next()) {
            (Some(Step::AnyText), _) => {
                rest = before.clone();
                retry = Some((step + 1, before));
                true
            }
            (None, None) => return true,
            (Some(Step::Is(expected)), Some(c)) => *expected == c,
            (Some(Step::AnyOne), Some(_)) => true,
            (_, None) => return false,
            (None, Some(_)) => false,
        };
        if fits {
            step += 1;
            continue;
        }
        let Some((again, from)) = &mut retry else { return false };
        if from.next().is_none() {
            return false;
        }
        step = *again;
        rest = from.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn like(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern).is_some_and(|pattern| pattern.matches(text))
    }

    #[test]
    fn shapes() {
        for (pattern, yes, no) in [
            ("Oslo", "Oslo", "Oslo "),
            ("O%", "Oslo", "oslo"),
            ("%lo", "Oslo", "Osla"),
            ("%sl%", "Oslo", "Olso"),
            ("O_lo", "Oslo", "Ossslo"),
            ("O%o", "Oslo", "Osla"),
            ("%a%b%", "xaybz", "xbya"),
            ("100\\%", "100%", "1000"),
            ("a\\_b", "a_b", "axb"),
            ("_", "é", ""),
            ("%_%", "x", ""),
            ("%", "", "\u{0}never"),
        ] {
            assert!(like(pattern, yes), "{pattern} {yes}");
            assert!(pattern == "%" || !like(pattern, no), "{pattern} {no}");
        }
        assert!(like("", "") && !like("", "x"));
        assert!(Pattern::new(&"x".repeat(PATTERN_CHARS + 1)).is_none());
    }

    fn reference(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('%', rest)) => (0..=text.len()).any(|from| reference(rest, &text[from..])),
            Some((c, rest)) => {
                text.split_first().is_some_and(|(t, texts)| (*c == '_' || c == t) && reference(rest, texts))
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_obvious_way(pattern in "[ab%_]{0,8}", text in "[ab]{0,10}") {
            let chars = |s: &str| s.chars().collect::<Vec<_>>();
            prop_assert_eq!(like(&pattern, &text), reference(&chars(&pattern), &chars(&text)));
        }
    }
}
