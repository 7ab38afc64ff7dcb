//! Points in time as the protocol writes them.
//!
//! Must not know: the clock. Whoever calls core brings `now`.
//!
//! Invariant: `Display` and `parse` are inverse for every value in the years 1 to 9999.

use std::fmt;

/// Ticks of 100 ns in one second: the resolution of the service's seven fraction digits.
pub const TICKS_PER_SEC: i64 = 10_000_000;
const SECS_PER_DAY: i64 = 86_400;
/// 0001-01-01T00:00:00Z in seconds relative to the Unix epoch.
const YEAR_1_SECS: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z in seconds relative to the Unix epoch.
const YEAR_9999_END_SECS: i64 = 253_402_300_799;

/// A UTC point in time with a resolution of 100 ns, counted from the Unix epoch.
///
/// Printed as ISO 8601 with seven fraction digits and `Z` (device §5.3); [`Timestamp::NEVER`], the
/// service's way to say "not yet", is printed without a fraction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// `0001-01-01T00:00:00Z`, what the service shows for a time that has not come yet.
    pub const NEVER: Timestamp = Timestamp(YEAR_1_SECS * TICKS_PER_SEC);
    /// 1970-01-01T00:00:00Z.
    pub const UNIX_EPOCH: Timestamp = Timestamp(0);

    /// From ticks of 100 ns since the Unix epoch; values outside the years 1 to 9999 are clamped.
    pub const fn from_ticks(ticks: i64) -> Timestamp {
        let (min, max) = (YEAR_1_SECS * TICKS_PER_SEC, (YEAR_9999_END_SECS + 1) * TICKS_PER_SEC - 1);
        Timestamp(if ticks < min {
            min
        } else if ticks > max {
            max
        } else {
            ticks
        })
    }

    /// From whole seconds since the Unix epoch; values outside the years 1 to 9999 are clamped.
    pub const fn from_unix_secs(secs: i64) -> Timestamp {
        Timestamp::from_ticks(secs.saturating_mul(TICKS_PER_SEC))
    }

    /// Ticks of 100 ns since the Unix epoch, negative before it.
    pub const fn ticks(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn unix_secs(self) -> i64 {
        self.0.div_euclid(TICKS_PER_SEC)
    }

    /// This time plus a number of seconds.
    #[must_use]
    pub const fn plus_secs(self, secs: i64) -> Timestamp {
        Timestamp::from_ticks(self.0.saturating_add(secs.saturating_mul(TICKS_PER_SEC)))
    }

    /// Whether this is the service's "not yet" value.
    pub const fn is_never(self) -> bool {
        self.0 == Timestamp::NEVER.0
    }

    /// Reads `YYYY-MM-DDThh:mm:ss[.fraction][Z]`; without a zone the time is taken as UTC, as the
    /// service does. Fraction digits after the seventh are dropped.
    pub fn parse(text: &str) -> Option<Timestamp> {
        let bytes = text.as_bytes();
        let (date, rest) = (bytes.get(..19)?, bytes.get(19..)?);
        let shape = date.iter().enumerate().all(|(i, b)| match i {
            4 | 7 => *b == b'-',
            10 => *b == b'T',
            13 | 16 => *b == b':',
            _ => b.is_ascii_digit(),
        });
        if !shape {
            return None;
        }
        let number =
            |from: usize, to: usize| date[from..to].iter().fold(0i64, |n, b| n * 10 + i64::from(b - b'0'));
        let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
        let (hour, minute, second) = (number(11, 13), number(14, 16), number(17, 19));
        let valid = year >= 1
            && (1..=12).contains(&month)
            && (1..=days_in_month(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        if !valid {
            return None;
        }
        let secs = days_from_civil(year, month, day) * SECS_PER_DAY + hour * 3600 + minute * 60 + second;
        Some(Timestamp(secs * TICKS_PER_SEC + parse_fraction(rest)?))
    }

    /// Appends the printed form without going through the formatting machinery: a page of twins holds thousands.
    pub fn write_to(self, out: &mut Vec<u8>) {
        let secs = self.unix_secs();
        let (days, of_day) = (secs.div_euclid(SECS_PER_DAY), secs.rem_euclid(SECS_PER_DAY));
        let (year, month, day) = civil_from_days(days);
        let mut text = *b"0000-00-00T00:00:00.0000000Z";
        let (year, of_day) = (small(year.rem_euclid(10_000)), small(of_day));
        two(&mut text, 0, year / 100);
        two(&mut text, 2, year % 100);
        two(&mut text, 5, small(month));
        two(&mut text, 8, small(day));
        two(&mut text, 11, of_day / 3600);
        two(&mut text, 14, of_day / 60 % 60);
        two(&mut text, 17, of_day % 60);
        if self.is_never() {
            out.extend_from_slice(&text[..19]);
            out.push(b'Z');
            return;
        }
        let ticks = small(self.0.rem_euclid(TICKS_PER_SEC));
        two(&mut text, 20, ticks / 100_000);
        two(&mut text, 22, ticks / 1_000 % 100);
        two(&mut text, 24, ticks / 10 % 100);
        text[26] = digit(ticks % 10);
        out.extend_from_slice(&text);
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::with_capacity(28);
        self.write_to(&mut out);
        f.write_str(&String::from_utf8_lossy(&out))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Puts a number below 100 at its place.
fn two(text: &mut [u8; 28], at: usize, value: u32) {
    text[at] = digit(value / 10);
    text[at + 1] = digit(value % 10);
}

fn digit(value: u32) -> u8 {
    b'0' + u8::try_from(value).unwrap_or(0)
}

/// What is known to be small.
fn small(value: i64) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

/// The ticks of `[.digits][Z]`.
fn parse_fraction(rest: &[u8]) -> Option<i64> {
    let rest = rest.strip_suffix(b"Z").unwrap_or(rest);
    let Some(fraction) = rest.strip_prefix(b".") else {
        return rest.is_empty().then_some(0);
    };
    if fraction.is_empty() || fraction.len() > 20 || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some((0..7).fold(0, |n, i| n * 10 + fraction.get(i).map_or(0, |b| i64::from(b - b'0'))))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since the Unix epoch of a proleptic Gregorian date. Years start in March here, so that the
/// leap day is a year's last day.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, month) = (year.div_euclid(400), (month + 9) % 12);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prints_seven_digits_and_never_without() {
        assert_eq!(Timestamp::from_ticks(17_145_576_001_234_567).to_string(), "2024-05-01T10:00:00.1234567Z");
        assert_eq!(Timestamp::NEVER.to_string(), "0001-01-01T00:00:00Z");
        assert_eq!(Timestamp::UNIX_EPOCH.to_string(), "1970-01-01T00:00:00.0000000Z");
    }

    #[test]
    fn reads_what_clients_write() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(Timestamp::parse(text).map(|t| t.to_string()).as_deref(), expected, "{text}");
        };
        check("2024-05-01T10:00:00Z", Some("2024-05-01T10:00:00.0000000Z"));
        check("2024-05-01T10:00:00.5", Some("2024-05-01T10:00:00.5000000Z"));
        check("2024-02-29T23:59:59.12345678Z", Some("2024-02-29T23:59:59.1234567Z"));
        check("0001-01-01T00:00:00", Some("0001-01-01T00:00:00Z"));
        check("2023-02-29T00:00:00Z", None);
        check("2024-05-01 10:00:00Z", None);
        check("2024-05-01T10:00:00.Z", None);
        check("2024-05-01T24:00:00Z", None);
        check("", None);
    }

    proptest! {
        #[test]
        fn print_then_parse(ticks in Timestamp::NEVER.ticks()..2_534_023_008_000_000_000i64 / 10) {
            let time = Timestamp::from_ticks(ticks);
            prop_assert_eq!(Timestamp::parse(&time.to_string()), Some(time));
        }
    }
}
