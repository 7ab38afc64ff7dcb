//! Lengths of time as people write them (`250ms`, `1.5s`, `10m`), and delays that vary.
//!
//! Must not know: clocks, what is delayed.
//!
//! Invariant: a length of time is at most [`MAX_MS`], and a delay drawn is too.

use std::fmt;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::Deserialize;

use super::random::Random;

/// Ten years. Longer is a slip of the keyboard.
const MAX_MS: u64 = 10 * 366 * 86_400_000;

/// A length of time in milliseconds, written as `"250ms"`, `"10s"`, `"5m"`, `"2h"`, `"1d"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub u64);

/// Reads a length of time. A number alone is in seconds.
pub fn span(text: &str) -> Result<Span, String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let hint = || format!("`{text}` is no length of time; write for example 250ms, 10s, 5m, 2h or 1d");
    let factor = match unit.trim() {
        "ms" => 1.0,
        "" | "s" => 1e3,
        "m" | "min" => 60e3,
        "h" => 3_600e3,
        "d" => 86_400e3,
        _ => return Err(hint()),
    };
    let number: f64 = number.parse().map_err(|_| hint())?;
    let ms = number * factor;
    if ms > MAX_MS as f64 {
        return Err(format!("`{text}` is longer than ten years"));
    }
    Ok(Span(ms.round() as u64))
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time such as \"250ms\", \"10s\" or \"5m\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                span(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// How long something takes, drawn anew each time. In ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delay {
    /// Always the same.
    Fixed(u64),
    /// Any length between the two, each as likely.
    Uniform(u64, u64),
    /// Bell-shaped around the mean; never below zero.
    Normal { mean: u64, spread: u64 },
    /// Mostly short, now and then long: the time between things that happen at random.
    Exponential(u64),
}

impl Delay {
    pub const NONE: Delay = Delay::Fixed(0);

    /// A length of time in ms.
    pub fn draw(self, random: &mut Random) -> u64 {
        match self {
            Self::Fixed(ms) => ms,
            Self::Uniform(from, to) => from + random.below(to - from + 1),
            Self::Normal { mean, spread } => clamp(mean as f64 + spread as f64 * random.bell()),
            Self::Exponential(mean) => clamp(-(1.0 - random.unit()).ln() * mean as f64),
        }
    }

    /// Whether it is never anything but zero.
    pub fn is_none(self) -> bool {
        matches!(self, Self::Fixed(0))
    }
}

fn clamp(ms: f64) -> u64 {
    ms.round().clamp(0.0, MAX_MS as f64) as u64
}

impl<'de> Deserialize<'de> for Delay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DelayVisitor)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Uniform,
    Normal,
    Exponential,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Normal {
    mean: Span,
    spread: Span,
}

struct DelayVisitor;

impl<'de> Visitor<'de> for DelayVisitor {
    type Value = Delay;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a delay: \"20ms\", { uniform = [\"5ms\", \"50ms\"] }, \
             { normal = { mean = \"20ms\", spread = \"5ms\" } } or { exponential = \"1m\" }",
        )
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Delay, E> {
        span(text).map(|span| Delay::Fixed(span.0)).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Delay, A::Error> {
        let delay = match map.next_key()? {
            None => return Err(de::Error::custom("an empty table is no delay")),
            Some(Kind::Uniform) => {
                let (from, to): (Span, Span) = map.next_value()?;
                if from > to {
                    return Err(de::Error::custom(
                        "the first length of `uniform` must not exceed the second",
                    ));
                }
                Delay::Uniform(from.0, to.0)
            }
            Some(Kind::Normal) => {
                let Normal { mean, spread } = map.next_value()?;
                Delay::Normal { mean: mean.0, spread: spread.0 }
            }
            Some(Kind::Exponential) => Delay::Exponential(map.next_value::<Span>()?.0),
        };
        match map.next_key::<Kind>()? {
            None => Ok(delay),
            Some(_) => Err(de::Error::custom("a delay is of one kind only")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::Stream;
    use super::*;

    #[test]
    fn lengths_of_time_as_people_write_them() {
        for (text, ms) in [
            ("250ms", 250),
            ("10s", 10_000),
            ("1.5s", 1_500),
            ("5 m", 300_000),
            ("2h", 7_200_000),
            ("3", 3_000),
        ] {
            assert_eq!(span(text), Ok(Span(ms)), "{text}");
        }
        for text in ["", "s", "10 x", "-1s", "1..2s", "99999d", "∞"] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn delays_stay_within_what_they_promise() {
        #[derive(Deserialize)]
        struct File {
            delay: Vec<Delay>,
        }
        let text = r#"delay = ["20ms", { uniform = ["5ms", "50ms"] },
            { normal = { mean = "20ms", spread = "30ms" } }, { exponential = "1m" }]"#;
        let delays = toml::from_str::<File>(text).unwrap().delay;
        let mut random = Random::new(1, 1, Stream::Flap);
        for _ in 0..1000 {
            assert_eq!(delays[0].draw(&mut random), 20);
            assert!((5..=50).contains(&delays[1].draw(&mut random)));
            assert!(delays[2].draw(&mut random) <= 200);
            assert!(delays[3].draw(&mut random) < 3_600_000);
        }
    }
}
