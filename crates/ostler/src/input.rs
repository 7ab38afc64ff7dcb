//! Values from the command line: `key=value` pairs, JSON texts, files, stdin.
//!
//! Must not know: hubs, what the values mean.
//!
//! Invariant: input is read up to [`MAX_INPUT`] bytes and no further.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use ostler_service_sdk::{DeviceId, EntityId, JsonObject, ModuleId};
use serde_json::Value;

use crate::exit::{Failure, Result};

/// Far more than any twin or payload a hub takes.
const MAX_INPUT: u64 = 16 << 20;

/// For clap: a device id.
pub fn device_id(text: &str) -> std::result::Result<DeviceId, String> {
    DeviceId::new(text).map_err(|error| error.to_string())
}

/// For clap: a module id.
pub fn module_id(text: &str) -> std::result::Result<ModuleId, String> {
    ModuleId::new(text).map_err(|error| error.to_string())
}

/// For clap: a device, or `device/module`.
pub fn entity_id(text: &str) -> std::result::Result<EntityId, String> {
    EntityId::parse(text).map_err(|error| error.to_string())
}

/// For clap: `key=value`; dots in the key make nested objects, the value is JSON if it parses as such, else a text.
pub fn pair(text: &str) -> std::result::Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or("expected key=value")?;
    if key.split('.').any(str::is_empty) {
        return Err(format!("`{key}` is no key: expected names with dots between them"));
    }
    Ok((key.to_owned(), loose_value(value)))
}

/// For clap: what `--query` takes. An empty text is a shell variable that is not set, more often than a wish.
pub fn condition(text: &str) -> std::result::Result<String, String> {
    if text.trim().is_empty() {
        return Err("it is empty; `*` is every device".to_owned());
    }
    Ok(text.to_owned())
}

/// What is to be written to a section of a twin: one member, or an object of them.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    Pair(String, Value),
    Object(JsonObject),
}

/// For clap: a pair, or a JSON object.
pub fn part(text: &str) -> std::result::Result<Part, String> {
    if !text.trim_start().starts_with('{') {
        let (key, value) = pair(text).map_err(|error| format!("{error}, or a JSON object"))?;
        return Ok(Part::Pair(key, value));
    }
    serde_json::from_str(text).map(Part::Object).map_err(|error| format!("not a JSON object: {error}"))
}

/// Builds an object from parts; a member of a later part wins over one of an earlier part.
pub fn merged(parts: &[Part]) -> Result<JsonObject> {
    let mut root = JsonObject::new();
    for part in parts {
        match part {
            Part::Pair(key, value) => put(&mut root, key, value)?,
            Part::Object(members) => root.extend(members.clone()),
        }
    }
    Ok(root)
}

/// JSON where it parses, else the text itself: `30`, `true`, `null`, `{"a":1}`, `north`.
pub fn loose_value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// Builds an object from pairs; a later pair wins over an earlier one.
pub fn object(pairs: &[(String, Value)]) -> Result<JsonObject> {
    let mut root = JsonObject::new();
    for (key, value) in pairs {
        put(&mut root, key, value)?;
    }
    Ok(root)
}

fn put(root: &mut JsonObject, key: &str, value: &Value) -> Result {
    insert(root, key, value.clone())
        .map_err(|part| Failure::usage(format!("`{key}`: `{part}` was given a plain value before")))
}

fn insert<'k>(object: &mut JsonObject, key: &'k str, value: Value) -> std::result::Result<(), &'k str> {
    let Some((head, rest)) = key.split_once('.') else {
        object.insert(key.to_owned(), value);
        return Ok(());
    };
    match object.entry(head).or_insert_with(|| Value::Object(JsonObject::new())) {
        Value::Object(inner) => insert(inner, rest, value),
        _ => Err(head),
    }
}

/// A file's text, or stdin's for `-`.
pub fn text(path: &Path) -> Result<String> {
    String::from_utf8(bytes(path)?)
        .map_err(|_| Failure::failed(format!("{}: it is not UTF-8 text", name(path))))
}

/// A file's bytes, or stdin's for `-`.
pub fn bytes(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(MAX_INPUT + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(MAX_INPUT + 1).read_to_end(&mut bytes))
    };
    match read {
        Ok(length) if length as u64 > MAX_INPUT => {
            Err(Failure::failed(format!("{}: longer than {} MiB", name(path), MAX_INPUT >> 20)))
        }
        Ok(_) => Ok(bytes),
        Err(error) => Err(Failure::file(Path::new(&name(path)), &error)),
    }
}

/// A file or stdin as JSON.
pub fn json(path: &Path) -> Result<Value> {
    json_text(&text(path)?, &name(path))
}

/// A text as JSON; `origin` says where it came from.
pub fn json_text(text: &str, origin: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| {
        Failure::usage(format!("{origin} is not JSON: {error}"))
            .advise("A text needs double quotes inside the shell's quotes: '\"like this\"'")
    })
}

fn name(path: &Path) -> String {
    if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[&str], expected: &str) {
        let pairs: Vec<_> = pairs.iter().map(|text| pair(text).unwrap()).collect();
        assert_eq!(serde_json::to_string(&object(&pairs).unwrap()).unwrap(), expected);
    }

    #[test]
    fn pairs_become_an_object() {
        check(&["interval=30", "site=north"], r#"{"interval":30,"site":"north"}"#);
        check(
            &["log.level=debug", "log.size=1.50", "log.old=null"],
            r#"{"log":{"level":"debug","size":1.50,"old":null}}"#,
        );
        check(&["a=\"30\"", "b=", "c=x=y"], r#"{"a":"30","b":"","c":"x=y"}"#);
        check(&["a={\"b\":1}", "a.c=[2]"], r#"{"a":{"b":1,"c":[2]}}"#);
        check(&["big=9007199254740993"], r#"{"big":9007199254740993}"#);
    }

    #[test]
    fn an_object_may_stand_for_pairs() {
        let merged = |texts: &[&str]| {
            let parts: Vec<_> = texts.iter().map(|text| part(text).unwrap()).collect();
            serde_json::to_string(&merged(&parts).unwrap()).unwrap()
        };
        assert_eq!(merged(&[r#"{"a.b":"x=y"}"#, "c.d=1"]), r#"{"a.b":"x=y","c":{"d":1}}"#);
        assert_eq!(merged(&["a.b=1", "a.c=2", r#"{"a":null}"#]), r#"{"a":null}"#);
        for text in ["{", "{1}", "[1]", "3", "null"] {
            assert!(part(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_condition_is_not_empty() {
        assert!(condition("").is_err() && condition(" \n").is_err() && condition("*").is_ok());
    }

    #[test]
    fn wrong_pairs_are_refused() {
        for text in ["interval", "=1", ".a=1", "a.=1", "a..b=1"] {
            assert!(pair(text).is_err(), "{text}");
        }
        let clash = [pair("a=1").unwrap(), pair("a.b=2").unwrap()];
        assert!(object(&clash).is_err());
    }
}
