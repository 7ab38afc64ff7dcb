//! Times for people.
//!
//! Must not know: where a time comes from.

use jiff::{SignedDuration, Timestamp};

/// `12 s ago`, `3 h ago`, `never`; the text itself if it is no time.
pub fn ago(text: &str, now: Timestamp) -> String {
    if text.starts_with("0001-01-01") {
        return "never".to_owned();
    }
    match text.parse::<Timestamp>() {
        Ok(time) => match now.duration_since(time) {
            since if since < SignedDuration::ZERO => "just now".to_owned(),
            since => format!("{} ago", span(since)),
        },
        Err(_) => text.to_owned(),
    }
}

/// A length of time in its largest sensible unit.
pub fn span(duration: SignedDuration) -> String {
    let secs = duration.as_secs().abs();
    match secs {
        0..=119 => format!("{secs} s"),
        120..=7_199 => format!("{} min", secs / 60),
        7_200..=172_799 => format!("{} h", secs / 3_600),
        _ => format!("{} d", secs / 86_400),
    }
}

/// `14:03:07.123`, UTC as everything a hub says, for lines that come live; the text itself if it is no time.
pub fn clock(text: &str) -> String {
    text.parse::<Timestamp>()
        .map_or_else(|_| text.to_owned(), |time| time.to_string().get(11..).map_or_else(String::new, shorten))
}

fn shorten(time: &str) -> String {
    let time = time.trim_end_matches('Z');
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    format!("{clock}.{:0<3}", fraction.get(..3.min(fraction.len())).unwrap_or(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_the_unit_that_matters() {
        let now: Timestamp = "2026-05-01T10:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("2026-05-01T09:59:48.1234567Z", "11 s ago"),
            ("2026-05-01T09:00:00.0000000Z", "60 min ago"),
            ("2026-04-30T10:00:00Z", "24 h ago"),
            ("2026-04-01T10:00:00Z", "30 d ago"),
            ("2026-05-01T10:00:00.5Z", "just now"),
            ("0001-01-01T00:00:00Z", "never"),
            ("gibberish", "gibberish"),
        ] {
            assert_eq!(ago(text, now), expected, "{text}");
        }
    }

    #[test]
    fn live_lines_show_milliseconds() {
        assert_eq!(clock("2026-05-01T10:03:07.1234567Z"), "10:03:07.123");
        assert_eq!(clock("2026-05-01T10:03:07Z"), "10:03:07.000");
        assert_eq!(clock("?"), "?");
    }
}
