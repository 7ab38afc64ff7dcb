//! Times for people.
//!
//! Must not know: where a time comes from.

use jiff::civil::{DateTime, Time};
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};

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

/// The same for a time that may lie ahead: `in 12 s`.
pub fn ago_or_in(text: &str, now: Timestamp) -> String {
    match text.parse::<Timestamp>() {
        Ok(time) if time > now => format!("in {}", span(time.duration_since(now))),
        _ => ago(text, now),
    }
}

/// For clap: a length of time in seconds: `90`, `90s`, `10m`, `2h`, `1d`.
pub fn seconds(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err("expected a length of time such as 90, 90s, 10m, 2h or 1d".to_owned()),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    number.ok_or_else(|| "expected a length of time such as 90, 90s, 10m, 2h or 1d".to_owned())
}

/// The same, where a hub takes no more than fits.
pub fn seconds32(text: &str) -> Result<u32, String> {
    u32::try_from(seconds(text)?).map_err(|_| "longer than anybody can wait".to_owned())
}

/// For clap: when something is to start, as UTC text: `now`, `+10s`, `03:00`, `2026-01-31T03:00` here, or with a zone.
pub fn start(text: &str) -> Result<String, String> {
    start_after(text, &Zoned::now()).map(|time| time.to_string())
}

fn start_after(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    let unclear = || {
        "expected now, +10s, +5m, 03:00, or a date as 2026-01-31T03:00:00Z; without a zone it is this machine's"
            .to_owned()
    };
    let far = |_| "that is further ahead than any calendar goes".to_owned();
    if text == "now" {
        return Ok(now.timestamp());
    }
    if let Some(length) = text.strip_prefix('+') {
        let secs = i64::try_from(seconds(length)?).map_err(|_| unclear())?;
        return now.timestamp().checked_add(SignedDuration::from_secs(secs)).map_err(far);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let here = now.time_zone();
    if let Ok(time) = text.parse::<DateTime>() {
        return Ok(time.to_zoned(here.clone()).map_err(far)?.timestamp());
    }
    let time = text.parse::<Time>().map_err(|_| unclear())?;
    let today = now.date().to_datetime(time).to_zoned(here.clone()).map_err(far)?;
    if today.timestamp() > now.timestamp() {
        return Ok(today.timestamp());
    }
    let tomorrow = now.date().checked_add(1.day()).map_err(far)?;
    Ok(tomorrow.to_datetime(time).to_zoned(here.clone()).map_err(far)?.timestamp())
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
    fn times_ahead() {
        let now: Timestamp = "2026-05-01T10:00:00Z".parse().unwrap();
        assert_eq!(ago_or_in("2026-05-01T10:00:09.9Z", now), "in 9 s");
        assert_eq!(ago_or_in("2026-05-02T10:00:00Z", now), "in 24 h");
        assert_eq!(ago_or_in("2026-05-01T09:59:00Z", now), "60 s ago");
    }

    #[test]
    fn lengths_of_time() {
        for (text, expected) in
            [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7_200), ("1d", 86_400), ("0", 0)]
        {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in ["", "m", "1w", "-1", "1.5h", "1 h", "99999999999999999999", "9999999999999999999d"] {
            assert!(seconds(text).is_err(), "{text}");
        }
        assert!(seconds32("200y").is_err() && seconds32("4294967296").is_err());
    }

    #[test]
    fn starts_are_read_here_and_told_in_utc() {
        let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(2));
        let now = "2026-05-01T10:00:00Z".parse::<Timestamp>().unwrap().to_zoned(zone);
        for (text, expected) in [
            ("now", "2026-05-01T10:00:00Z"),
            ("+10s", "2026-05-01T10:00:10Z"),
            ("+1d", "2026-05-02T10:00:00Z"),
            ("13:00", "2026-05-01T11:00:00Z"),
            ("12:00", "2026-05-02T10:00:00Z"),
            ("03:00:30", "2026-05-02T01:00:30Z"),
            ("2026-05-03T03:00", "2026-05-03T01:00:00Z"),
            ("2026-05-03T03:00:00Z", "2026-05-03T03:00:00Z"),
            ("2026-05-03T03:00:00-05:00", "2026-05-03T08:00:00Z"),
        ] {
            assert_eq!(
                start_after(text, &now).map(|time| time.to_string()),
                Ok(expected.to_owned()),
                "{text}"
            );
        }
        for text in ["", "+", "+x", "soon", "25:00", "2026-13-01T00:00:00Z", "+999999999999d"] {
            assert!(start_after(text, &now).is_err(), "{text}");
        }
    }

    #[test]
    fn live_lines_show_milliseconds() {
        assert_eq!(clock("2026-05-01T10:03:07.1234567Z"), "10:03:07.123");
        assert_eq!(clock("2026-05-01T10:03:07Z"), "10:03:07.000");
        assert_eq!(clock("?"), "?");
    }
}
