//! Words of the language: which are reserved, how a name is written, which word was probably meant.
//!
//! Must not know: the grammar.
//!
//! Invariant: [`write_name`] writes what the lexer reads as that name.

/// Words that must be escaped as path segments (query §2), function names aside.
const RESERVED: &[&str] = &[
    "ALL",
    "AND",
    "AS",
    "ASC",
    "AVG",
    "BY",
    "COUNT",
    "DESC",
    "DEVICES",
    "FALSE",
    "FROM",
    "GROUP",
    "IN",
    "MAX",
    "MIN",
    "NIN",
    "NOT",
    "NULL",
    "OR",
    "ORDER",
    "SELECT",
    "SUM",
    "TOP",
    "TRUE",
    "UNDEFINED",
    "WHERE",
];

/// Functions whose names are reserved too (query §2).
const RESERVED_FUNCTIONS: &[&str] = &[
    "STARTSWITH",
    "ENDSWITH",
    "IS_ARRAY",
    "IS_BOOL",
    "IS_DEFINED",
    "IS_NULL",
    "IS_NUMBER",
    "IS_OBJECT",
    "IS_PRIMITIVE",
    "IS_STRING",
];

/// Whether a word must be escaped to be a name.
pub(super) fn is_reserved(word: &str) -> bool {
    RESERVED.iter().chain(RESERVED_FUNCTIONS).any(|reserved| word.eq_ignore_ascii_case(reserved))
}

/// Whether a character may begin a name.
pub(super) fn starts_name(c: char) -> bool {
    c.is_alphabetic() || matches!(c, '_' | '$')
}

/// Whether a character may stand in a name.
pub(super) fn continues_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$')
}

/// Whether a name needs no escape.
pub(super) fn is_bare(name: &str) -> bool {
    name.starts_with(starts_name) && name.chars().all(continues_name) && !is_reserved(name)
}

/// Appends a path segment or alias, escaped where needed.
pub(super) fn write_name(name: &str, out: &mut String) {
    if is_bare(name) {
        out.push_str(name);
    } else {
        out.push_str("[[");
        out.push_str(name);
        out.push_str("]]");
    }
}

/// Words longer than this are not compared: nobody mistypes a word into an essay.
const COMPARED: usize = 32;

/// The word that was probably meant: the one with the fewest changed letters, if they are few.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.chars().count() > COMPARED {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let allowed = match word.chars().count() {
        0 | 1 => 0,
        2..=4 => 1,
        5..=8 => 2,
        _ => 3,
    };
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters differ: inserted, removed, replaced, or two neighbours swapped.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for i in 1..=left.len() {
        let mut row = vec![i];
        for j in 1..=right.len() {
            let replace = last[j - 1] + usize::from(left[i - 1] != right[j - 1]);
            let mut best = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                best = best.min(before_last[j - 2] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let words = ["SELECT", "FROM", "WHERE", "GROUP", "STARTSWITH"];
        let check = |word: &str, expected: Option<&str>| assert_eq!(nearest(word, words), expected, "{word}");
        check("SELCT", Some("SELECT"));
        check("selcet", Some("SELECT"));
        check("FORM", Some("FROM"));
        check("wheer", Some("WHERE"));
        check("startWith", Some("STARTSWITH"));
        check("banana", None);
        check("x", None);
    }

    #[test]
    fn names() {
        let check = |name: &str, expected: &str| {
            let mut out = String::new();
            write_name(name, &mut out);
            assert_eq!(out, expected);
        };
        check("site", "site");
        check("$version", "$version");
        check("größe", "größe");
        check("Group", "[[Group]]");
        check("is_active", "is_active");
        check("my-tag", "[[my-tag]]");
        check("2nd", "[[2nd]]");
    }
}
