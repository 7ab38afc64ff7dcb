//! Values that a scenario describes: JSON with parts that are made up anew each time.
//!
//! In a scenario a value is what TOML says, except that a table with a member `gen` stands for what that generator makes,
//! and that `{id}`, `{index}`, `{group}` and `{now}` in a text are replaced.
//!
//! Must not know: devices, sockets, clocks.
//!
//! Invariant: what is rendered is JSON, whatever the template.
//! Invariant: a template without generators and placeholders is rendered once, when it is compiled.

use ostler_core::json::write_string;
use ostler_core::time::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::random::Random;

/// Deepest nesting of a template; a twin allows no more.
const MAX_DEPTH: usize = 10;
const PLACEHOLDERS: [&str; 4] = ["{id}", "{index}", "{group}", "{now}"];

/// A value to be rendered.
#[derive(Debug, Clone, PartialEq)]
pub enum Template {
    /// Always this JSON.
    Text(Box<[u8]>),
    /// A text with placeholders.
    Pattern(Box<str>),
    Array(Box<[Template]>),
    /// Keys are JSON strings with quotes.
    Object(Box<[(Box<[u8]>, Template)]>),
    Made(Box<Generator>),
}

/// Makes a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Generator {
    /// The entries in turn, from device to device; each for `every` devices.
    Cycle {
        of: Box<[Template]>,
        every: u64,
    },
    /// One of the entries.
    Choice {
        of: Box<[Template]>,
        weights: Box<[f64]>,
    },
    Int {
        min: i64,
        max: i64,
    },
    Float {
        min: f64,
        max: f64,
        digits: usize,
    },
    Bool {
        probability: f64,
    },
    /// Counts from call to call.
    Counter {
        slot: usize,
        step: f64,
    },
    /// Wanders by at most `step`, within bounds.
    Walk {
        slot: usize,
        step: f64,
        min: f64,
        max: f64,
        digits: usize,
    },
    /// The time.
    Now,
    /// The number of the device.
    Index {
        offset: u64,
    },
    /// A member of the payload of the call that is answered.
    Payload {
        path: Box<str>,
        fallback: Template,
    },
    /// The status that was decided, whatever a liar says.
    Status,
}

/// What a template may draw on.
pub struct Context<'a> {
    pub id: &'a str,
    pub group: &'a str,
    pub index: u64,
    pub now: Timestamp,
    pub random: &'a mut Random,
    /// The device's counters and walks.
    pub slots: &'a mut [f64],
    /// The payload of the call, if there is one.
    pub payload: Option<&'a Value>,
    pub status: Option<i32>,
}

/// The table of a generator, as written.
#[derive(Deserialize)]
#[serde(tag = "gen", rename_all = "lowercase", deny_unknown_fields)]
enum Written {
    Cycle {
        of: Vec<toml::Value>,
        #[serde(default = "one")]
        every: u64,
    },
    Choice {
        of: Vec<toml::Value>,
        #[serde(default)]
        weights: Vec<f64>,
    },
    Int {
        min: i64,
        max: i64,
    },
    Float {
        min: f64,
        max: f64,
        #[serde(default = "two")]
        digits: usize,
    },
    Bool {
        #[serde(default = "half")]
        probability: f64,
    },
    Counter {
        #[serde(default)]
        start: f64,
        #[serde(default = "one_more")]
        step: f64,
    },
    Walk {
        start: f64,
        step: f64,
        min: f64,
        max: f64,
        #[serde(default = "two")]
        digits: usize,
    },
    Now {},
    Index {
        #[serde(default)]
        offset: u64,
    },
    Payload {
        #[serde(default)]
        path: String,
        default: Option<toml::Value>,
    },
    Status {},
}

fn one() -> u64 {
    1
}

fn two() -> usize {
    2
}

fn half() -> f64 {
    0.5
}

fn one_more() -> f64 {
    1.0
}

impl Template {
    /// Compiles what a scenario says. `slots` gets the starting values of counters and walks.
    pub fn compile(value: &toml::Value, slots: &mut Vec<f64>) -> Result<Self, String> {
        Self::compile_at(value, slots, 0)
    }

    /// Whether the payload of a call is looked at; it need not be parsed otherwise.
    pub fn uses_payload(&self) -> bool {
        match self {
            Self::Text(_) | Self::Pattern(_) => false,
            Self::Array(items) => items.iter().any(Self::uses_payload),
            Self::Object(members) => members.iter().any(|(_, value)| value.uses_payload()),
            Self::Made(generator) => match &**generator {
                Generator::Payload { .. } => true,
                Generator::Cycle { of, .. } | Generator::Choice { of, .. } => {
                    of.iter().any(Self::uses_payload)
                }
                _ => false,
            },
        }
    }

    /// An object without members.
    pub fn empty() -> Self {
        Self::Text(b"{}".as_slice().into())
    }

    fn compile_at(value: &toml::Value, slots: &mut Vec<f64>, depth: usize) -> Result<Self, String> {
        if depth > MAX_DEPTH {
            return Err(format!("values nest deeper than {MAX_DEPTH}, which no twin allows"));
        }
        let template = match value {
            toml::Value::Table(table) if table.contains_key("gen") => {
                Self::Made(Box::new(generator(value, slots, depth)?))
            }
            toml::Value::Table(table) => Self::Object(
                table
                    .iter()
                    .map(|(key, value)| Ok((quoted(key).into(), Self::compile_at(value, slots, depth + 1)?)))
                    .collect::<Result<_, String>>()?,
            ),
            toml::Value::Array(array) => Self::Array(compile_all(array, slots, depth + 1)?),
            toml::Value::String(text) if PLACEHOLDERS.iter().any(|name| text.contains(name)) => {
                Self::Pattern(text.as_str().into())
            }
            toml::Value::String(text) => Self::Text(quoted(text).into()),
            toml::Value::Integer(number) => Self::Text(number.to_string().into_bytes().into()),
            toml::Value::Float(number) if number.is_finite() => {
                Self::Text(serde_json::Value::from(*number).to_string().into_bytes().into())
            }
            toml::Value::Float(_) => return Err("JSON has no `inf` and no `nan`".to_owned()),
            toml::Value::Boolean(value) => Self::Text(value.to_string().into_bytes().into()),
            toml::Value::Datetime(time) => Self::Text(quoted(&time.to_string()).into()),
        };
        Ok(template.folded())
    }

    /// The same, rendered now if it never changes.
    fn folded(self) -> Self {
        let constant = match &self {
            Self::Array(items) => items.iter().all(|item| matches!(item, Self::Text(_))),
            Self::Object(members) => members.iter().all(|(_, value)| matches!(value, Self::Text(_))),
            _ => false,
        };
        if !constant {
            return self;
        }
        let mut text = Vec::new();
        self.put_composite(&mut text, |value, out| {
            if let Self::Text(text) = value {
                out.extend_from_slice(text);
            }
        });
        Self::Text(text.into())
    }

    /// Appends the value.
    pub fn render(&self, context: &mut Context<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => out.extend_from_slice(text),
            Self::Pattern(pattern) => out.extend_from_slice(&quoted(&fill(pattern, context))),
            Self::Made(generator) => generator.render(context, out),
            composite => composite.put_composite(out, |value, out| value.render(context, out)),
        }
    }

    /// The value as a text of its own.
    pub fn rendered(&self, context: &mut Context<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        self.render(context, &mut out);
        out
    }

    /// The same object with nonsense in every member: what a broken device reports.
    pub fn render_nonsense(&self, context: &mut Context<'_>, out: &mut Vec<u8>) {
        const NONSENSE: [&str; 6] = ["\"???\"", "-999999", "[]", "true", "1e300", "{\"error\":\"overflow\"}"];
        let mut text = Vec::new();
        self.render(context, &mut text);
        let Ok(Value::Object(members)) = serde_json::from_slice(&text) else { return out.extend(text) };
        out.push(b'{');
        for (place, key) in members.keys().enumerate() {
            separate(place, out);
            out.extend(quoted(key));
            out.push(b':');
            let nonsense = context.random.below(NONSENSE.len() as u64) as usize;
            out.extend_from_slice(NONSENSE[nonsense].as_bytes());
        }
        out.push(b'}');
    }

    fn put_composite(&self, out: &mut Vec<u8>, mut put: impl FnMut(&Self, &mut Vec<u8>)) {
        match self {
            Self::Array(items) => {
                out.push(b'[');
                for (place, item) in items.iter().enumerate() {
                    separate(place, out);
                    put(item, out);
                }
                out.push(b']');
            }
            Self::Object(members) => {
                out.push(b'{');
                for (place, (key, value)) in members.iter().enumerate() {
                    separate(place, out);
                    out.extend_from_slice(key);
                    out.push(b':');
                    put(value, out);
                }
                out.push(b'}');
            }
            Self::Text(_) | Self::Pattern(_) | Self::Made(_) => put(self, out),
        }
    }
}

fn separate(place: usize, out: &mut Vec<u8>) {
    if place > 0 {
        out.push(b',');
    }
}

fn quoted(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    write_string(text, &mut out);
    out
}

fn compile_all(
    values: &[toml::Value],
    slots: &mut Vec<f64>,
    depth: usize,
) -> Result<Box<[Template]>, String> {
    values.iter().map(|value| Template::compile_at(value, slots, depth)).collect()
}

fn generator(value: &toml::Value, slots: &mut Vec<f64>, depth: usize) -> Result<Generator, String> {
    let written: Written = value
        .clone()
        .try_into()
        .map_err(|error: toml::de::Error| format!("in a value with `gen`: {}", error.message().trim_end()))?;
    let mut slot = |start: f64| {
        slots.push(start);
        slots.len() - 1
    };
    Ok(match written {
        Written::Cycle { of, every } => {
            let of = entries(&of, slots, depth)?;
            Generator::Cycle { of, every: every.max(1) }
        }
        Written::Choice { of, weights } => {
            let of = entries(&of, slots, depth)?;
            let wrong = weights.iter().any(|weight| !weight.is_finite() || *weight < 0.0);
            if !weights.is_empty()
                && (weights.len() != of.len() || wrong || weights.iter().sum::<f64>() <= 0.0)
            {
                return Err("`weights` needs one number, 0 or more, for each entry of `of`".to_owned());
            }
            Generator::Choice { of, weights: weights.into() }
        }
        Written::Int { min, max } if min <= max => Generator::Int { min, max },
        Written::Float { min, max, digits } if in_order(min, max) => {
            Generator::Float { min, max, digits: digits.min(17) }
        }
        Written::Walk { start, step, min, max, digits } if in_order(min, max) && step.is_finite() => {
            Generator::Walk { slot: slot(start.clamp(min, max)), step, min, max, digits: digits.min(17) }
        }
        Written::Int { .. } | Written::Float { .. } | Written::Walk { .. } => {
            return Err("`min` must not exceed `max`, and both must be finite".to_owned())
        }
        Written::Bool { probability } => Generator::Bool { probability },
        Written::Counter { start, step } => Generator::Counter { slot: slot(start), step },
        Written::Now {} => Generator::Now,
        Written::Index { offset } => Generator::Index { offset },
        Written::Payload { path, default } => {
            let fallback = match default {
                Some(value) => Template::compile_at(&value, slots, depth + 1)?,
                None => Template::Text(b"null".as_slice().into()),
            };
            Generator::Payload { path: path.into(), fallback }
        }
        Written::Status {} => Generator::Status,
    })
}

fn in_order(min: f64, max: f64) -> bool {
    min.is_finite() && max.is_finite() && min <= max
}

fn entries(of: &[toml::Value], slots: &mut Vec<f64>, depth: usize) -> Result<Box<[Template]>, String> {
    if of.is_empty() {
        return Err("`of` must not be empty".to_owned());
    }
    compile_all(of, slots, depth + 1)
}

impl Generator {
    fn render(&self, context: &mut Context<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Cycle { of, every } => {
                let place = (context.index / every) % of.len() as u64;
                of[place as usize].render(context, out);
            }
            Self::Choice { of, weights } if weights.is_empty() => {
                let place = context.random.below(of.len() as u64);
                of[place as usize].render(context, out);
            }
            Self::Choice { of, weights } => {
                let place = context.random.weighted(weights.iter().copied());
                of[place].render(context, out);
            }
            Self::Int { min, max } => {
                let span = max.abs_diff(*min);
                let step =
                    if span == u64::MAX { context.random.next() } else { context.random.below(span + 1) };
                put(out, min.wrapping_add_unsigned(step));
            }
            Self::Float { min, max, digits } => {
                put(out, format_args!("{:.digits$}", min + (max - min) * context.random.unit()));
            }
            Self::Bool { probability } => put(out, context.random.chance(*probability)),
            Self::Counter { slot, step } => {
                put(out, context.slots[*slot]);
                context.slots[*slot] += step;
            }
            Self::Walk { slot, step, min, max, digits } => {
                let value = &mut context.slots[*slot];
                put(out, format_args!("{:.digits$}", *value));
                *value = (*value + step * (2.0 * context.random.unit() - 1.0)).clamp(*min, *max);
            }
            Self::Now => put(out, format_args!("\"{}\"", context.now)),
            Self::Index { offset } => put(out, context.index + offset),
            Self::Payload { path, fallback } => {
                match context.payload.and_then(|payload| member(payload, path)) {
                    Some(value) => put(out, value),
                    None => fallback.render(context, out),
                }
            }
            Self::Status => put(out, context.status.unwrap_or(0)),
        }
    }
}

fn put(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    out.extend_from_slice(value.to_string().as_bytes());
}

/// The member at `a.b.c`; the whole for an empty path.
pub fn member<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    if path.is_empty() {
        return Some(value);
    }
    path.split('.').try_fold(value, |value, key| value.get(key))
}

fn fill(pattern: &str, context: &Context<'_>) -> String {
    pattern
        .replace("{id}", context.id)
        .replace("{index}", &context.index.to_string())
        .replace("{group}", context.group)
        .replace("{now}", &context.now.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::random::Stream;
    use super::*;

    fn compile(text: &str) -> Result<(Template, Vec<f64>), String> {
        let table: toml::Table = toml::from_str(&format!("v = {text}")).unwrap();
        let mut slots = Vec::new();
        Template::compile(&table["v"], &mut slots).map(|template| (template, slots))
    }

    /// What the template makes, three times in a row.
    fn check(text: &str, index: u64, expected: [&str; 3]) {
        let (template, mut slots) = compile(text).unwrap();
        let mut random = Random::new(1, index, Stream::Registration);
        let payload = serde_json::json!({ "a": { "b": [1] } });
        let made: Vec<String> = (0..3)
            .map(|_| {
                let mut context = Context {
                    id: "d-7",
                    group: "g",
                    index,
                    now: Timestamp::from_unix_secs(0),
                    random: &mut random,
                    slots: &mut slots,
                    payload: Some(&payload),
                    status: Some(200),
                };
                String::from_utf8(template.rendered(&mut context)).unwrap()
            })
            .collect();
        assert_eq!(made, expected, "{text}");
    }

    #[test]
    fn plain_values_are_json() {
        check(
            r#"{ a = 1, b = [true, "x\"y", 1.5], c = {} }"#,
            0,
            [r#"{"a":1,"b":[true,"x\"y",1.5],"c":{}}"#; 3],
        );
        assert!(matches!(compile("{ a = [1] }").unwrap().0, Template::Text(_)), "made once");
    }

    #[test]
    fn generators_make_values() {
        check(r#"{ gen = "cycle", of = [43, 44] }"#, 3, ["44"; 3]);
        check(r#"{ gen = "cycle", of = ["a", "b"], every = 100 }"#, 250, ["\"a\""; 3]);
        check(
            r#"{ n = { gen = "counter", start = 5, step = 2 } }"#,
            0,
            [r#"{"n":5}"#, r#"{"n":7}"#, r#"{"n":9}"#],
        );
        check(r#"{ gen = "int", min = 4, max = 4 }"#, 0, ["4"; 3]);
        check(r#"{ gen = "float", min = 1.0, max = 1.0, digits = 3 }"#, 0, ["1.000"; 3]);
        check(r#"{ gen = "walk", start = 20.0, step = 0.0, min = 0.0, max = 9.0 }"#, 0, ["9.00"; 3]);
        check(r#"{ gen = "now" }"#, 0, ["\"1970-01-01T00:00:00.0000000Z\""; 3]);
        check(r#"{ gen = "index", offset = 10 }"#, 5, ["15"; 3]);
        check(r#"{ gen = "payload", path = "a.b" }"#, 0, ["[1]"; 3]);
        check(r#"{ gen = "payload", path = "a.c", default = "none" }"#, 0, ["\"none\""; 3]);
        check(r#"{ gen = "status" }"#, 0, ["200"; 3]);
        check(r#""{id} of {group}, number {index}""#, 9, ["\"d-7 of g, number 9\""; 3]);
        check(r#"{ gen = "choice", of = ["x", "y"], weights = [0, 1] }"#, 0, ["\"y\""; 3]);
    }

    #[test]
    fn a_walk_stays_within_its_bounds() {
        let (template, mut slots) =
            compile(r#"{ gen = "walk", start = 5.0, step = 4.0, min = 0.0, max = 10.0 }"#).unwrap();
        let mut random = Random::new(3, 0, Stream::Report(0));
        let mut seen = Vec::new();
        for _ in 0..200 {
            let mut context = Context {
                id: "",
                group: "",
                index: 0,
                now: Timestamp::NEVER,
                random: &mut random,
                slots: &mut slots,
                payload: None,
                status: None,
            };
            let text = String::from_utf8(template.rendered(&mut context)).unwrap();
            seen.push(text.parse::<f64>().unwrap());
        }
        assert!(seen.iter().all(|value| (0.0..=10.0).contains(value)));
        assert!(seen.iter().any(|value| *value < 3.0) && seen.iter().any(|value| *value > 7.0));
    }

    #[test]
    fn mistakes_are_told() {
        for (text, expected) in [
            (r#"{ gen = "wander" }"#, "unknown variant `wander`"),
            (r#"{ gen = "cycle", of = [] }"#, "must not be empty"),
            (r#"{ gen = "int", min = 2, max = 1 }"#, "must not exceed"),
            (r#"{ gen = "choice", of = [1, 2], weights = [1] }"#, "one number"),
            (r#"{ gen = "int", min = 1, max = 2, mux = 3 }"#, "unknown field `mux`"),
            ("inf", "no `inf`"),
        ] {
            let error = compile(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(compile(&format!("{}1{}", "[".repeat(12), "]".repeat(12))).is_err());
    }
}
