//! URLs: what a reference means on a page, and where a redirect may lead.
//!
//! Must not know: sockets.
//!
//! Invariant: nothing leads from HTTPS to HTTP.

use super::failure::{Code, Failure};
use super::manifest::MAX_URL;

/// Resolves a reference against the URL it was found at (RFC 3986 §5, for `http` and `https`).
///
/// # Errors
/// [`Code::BadUrl`] for other schemes, for what is too long, and for a step from HTTPS to HTTP.
pub(super) fn resolve(base: Option<&str>, reference: &str) -> Result<String, Failure> {
    let shown: String = reference.split(['?', '#']).next().unwrap_or_default().chars().take(200).collect();
    let bad = |why: &str| Failure::new(Code::BadUrl, format!("`{shown}` cannot be used: {why}"));
    if reference.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(bad("it holds spaces or control characters"));
    }
    let reference = reference.split('#').next().unwrap_or_default();
    let url = match (split(reference), base.and_then(split)) {
        (Some(_), _) => reference.to_owned(),
        (None, _) if reference.contains("://") => return Err(bad("only http and https are understood")),
        (None, None) => return Err(bad("it is relative, and to nothing")),
        (None, Some((scheme, authority, path))) => {
            if let Some(rest) = reference.strip_prefix("//") {
                format!("{scheme}://{rest}")
            } else {
                let (reference, query) = reference.split_at(reference.find('?').unwrap_or(reference.len()));
                let base = path.split('?').next().unwrap_or_default();
                let joined = match (reference.strip_prefix('/'), reference) {
                    (_, "") => base.to_owned(),
                    (Some(_), absolute) => absolute.to_owned(),
                    (None, relative) => {
                        format!("{}/{relative}", base.rsplit_once('/').map_or("", |(folder, _)| folder))
                    }
                };
                format!("{scheme}://{authority}{}{query}", without_dots(&joined))
            }
        }
    };
    if url.len() > MAX_URL {
        return Err(bad(&format!("it is longer than {MAX_URL} bytes")));
    }
    match (split(&url), base.and_then(split)) {
        (None, _) => Err(bad("it names no host")),
        (Some(("http", ..)), Some(("https", ..))) => Err(bad("it leads from HTTPS to HTTP")),
        _ => Ok(url),
    }
}

/// Scheme, authority, and the rest.
fn split(url: &str) -> Option<(&'static str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = ["http", "https"].into_iter().find(|known| known.eq_ignore_ascii_case(scheme))?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    (!authority.is_empty()).then_some((scheme, authority, path))
}

fn without_dots(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let last = path.rsplit('/').next().unwrap_or_default();
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    if matches!(last, "." | "..") {
        parts.push("");
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved() {
        let base = "https://fw.example:8443/pumps/index.json?v=1";
        for (reference, expected) in [
            ("https://other.example/x", "https://other.example/x"),
            ("//other.example/x?y", "https://other.example/x?y"),
            ("/a/b", "https://fw.example:8443/a/b"),
            ("b.bin", "https://fw.example:8443/pumps/b.bin"),
            ("../c/./d.bin?sig=/../#f", "https://fw.example:8443/c/d.bin?sig=/../"),
            ("../../../x", "https://fw.example:8443/x"),
            ("?v=2", "https://fw.example:8443/pumps/index.json?v=2"),
            ("..", "https://fw.example:8443/"),
        ] {
            assert_eq!(resolve(Some(base), reference).as_deref(), Ok(expected), "{reference}");
        }
        assert_eq!(resolve(Some("http://h"), "x").as_deref(), Ok("http://h/x"));
        assert_eq!(resolve(Some("http://h/"), "https://h/x").as_deref(), Ok("https://h/x"));
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let long = format!("https://h/{}", "x".repeat(MAX_URL));
        for (base, reference) in [
            (None, "x"),
            (None, "test.com"),
            (None, "ftp://h/x"),
            (None, "https://"),
            (None, "https:///x"),
            (None, "https://h/a b"),
            (None, long.as_str()),
            (Some("https://h/x"), "http://h/x"),
            (Some("https://h/x"), "file:///etc/passwd"),
        ] {
            assert_eq!(resolve(base, reference).unwrap_err().code, Code::BadUrl, "{reference}");
        }
    }
}
