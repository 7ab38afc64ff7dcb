//! What a configuration puts into twins (service §11.2).
//!
//! Content comes as JSON: `{"deviceContent":{"properties.desired.cooling":{"fan":2}}}`. Here it becomes
//! paths with values, checked against the rules of twins, so that what is accepted can be applied to an
//! empty twin.
//!
//! Must not know: which twins get it.
//!
//! Invariant: the paths of one [`Settings`] do not overlap, are sorted, and obey the rules of twins.

use super::ConfigurationError;
use crate::id::ModuleId;
use crate::json::{Key, Object, Value};
use crate::limits::CONFIGURATION_PATHS;
use crate::time::Timestamp;
use crate::twin::{Section, SectionKind};

const DESIRED: &str = "properties.desired";

/// What a configuration sets, and on what kind of twin.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// `deviceContent`: on each device that meets the condition.
    Device(Settings),
    /// `moduleContent`: on each module that meets the condition.
    Module(Settings),
    /// `modulesContent`: on the modules of each edge device that meets the condition.
    Edge(Vec<(ModuleId, Settings)>),
}

impl Content {
    /// Reads the `content` of a configuration.
    ///
    /// # Errors
    /// [`ConfigurationError::Content`] names the place and the rule.
    pub fn read(content: &Object) -> Result<Content, ConfigurationError> {
        let kinds = ["deviceContent", "moduleContent", "modulesContent"];
        let given: Vec<(&str, &Object)> = kinds
            .iter()
            .filter_map(|kind| match content.get(kind)? {
                Value::Null => None,
                Value::Object(settings) => Some(Ok((*kind, settings))),
                other => Some(Err(refuse(format!("{kind} must be an object, not a {}", other.kind())))),
            })
            .collect::<Result<_, _>>()?;
        // Clients send the other kinds as empty objects.
        let filled: Vec<_> = given.iter().copied().filter(|(_, settings)| !settings.is_empty()).collect();
        let (kind, settings) = match (filled.as_slice(), given.as_slice()) {
            ([one], _) | ([], [one, ..]) => *one,
            ([], []) => return Err(refuse(format!("it needs one of {}", kinds.join(", ")))),
            _ => return Err(refuse(format!("it may have only one of {}", kinds.join(", ")))),
        };
        let content = match kind {
            "deviceContent" => Content::Device(Settings::read(settings)?),
            "moduleContent" => Content::Module(Settings::read(settings)?),
            _ => Content::Edge(read_modules(settings)?),
        };
        content.check_size().map(|()| content)
    }

    /// The settings for one module of an edge device.
    pub fn of_module(&self, module: &str) -> Option<&Settings> {
        match self {
            Content::Edge(modules) => {
                modules.iter().find(|(id, _)| id.as_str() == module).map(|(_, settings)| settings)
            }
            _ => None,
        }
    }

    /// Whether both set the same, whatever the order in which it is written.
    pub fn is_same(&self, other: &Content) -> bool {
        match (self, other) {
            (Content::Device(a), Content::Device(b)) | (Content::Module(a), Content::Module(b)) => {
                a.is_same(b)
            }
            (Content::Edge(a), Content::Edge(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && a.1.is_same(&b.1))
            }
            _ => false,
        }
    }

    fn check_size(&self) -> Result<(), ConfigurationError> {
        let paths = match self {
            Content::Device(settings) | Content::Module(settings) => settings.0.len(),
            Content::Edge(modules) => modules.iter().map(|(_, settings)| settings.0.len()).sum(),
        };
        if paths > CONFIGURATION_PATHS {
            return Err(refuse(format!("it sets {paths} paths, the limit is {CONFIGURATION_PATHS}")));
        }
        Ok(())
    }
}

fn refuse(text: String) -> ConfigurationError {
    ConfigurationError::Content(text)
}

fn read_modules(modules: &Object) -> Result<Vec<(ModuleId, Settings)>, ConfigurationError> {
    let mut read = Vec::with_capacity(modules.len());
    for (name, settings) in modules.iter() {
        let id = ModuleId::new(name).map_err(|error| refuse(format!("modulesContent.{name}: {error}")))?;
        let settings = settings
            .as_object()
            .ok_or_else(|| refuse(format!("modulesContent.{name} must be an object of twin paths")))?;
        read.push((id, Settings::read(settings)?));
    }
    read.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(read)
}

/// Values by path below the desired properties.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings(Vec<Setting>);

/// One value and where it goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Names below the desired properties; none means all of them.
    pub path: Box<[Key]>,
    /// What is to be there; `null` for nothing. It holds no `null` deeper.
    pub value: Value,
}

impl Settings {
    /// Reads a map of twin paths, such as `properties.desired.cooling.fan`.
    ///
    /// # Errors
    /// [`ConfigurationError::Content`] names the path and the rule.
    pub fn read(content: &Object) -> Result<Settings, ConfigurationError> {
        let mut settings = Vec::with_capacity(content.len());
        for (key, value) in content.iter() {
            let path = read_path(key)?;
            if path.is_empty() && !matches!(value, Value::Object(_)) {
                return Err(refuse(format!("{DESIRED} must be an object, not a {}", value.kind())));
            }
            settings.push(Setting { path, value: without_nulls(value) });
        }
        settings.sort_by(|a, b| a.path.cmp(&b.path));
        for pair in settings.windows(2) {
            if pair[1].path.starts_with(&pair[0].path) {
                let (outer, inner) = (shown(&pair[0].path), shown(&pair[1].path));
                return Err(refuse(format!("{inner} lies within {outer}; set it there")));
            }
        }
        let settings = Settings(settings);
        // What breaks a rule of twins would break it on every twin.
        let whole = settings.as_object();
        let checked = Section::default().merge(SectionKind::Desired, &whole, Timestamp::NEVER);
        checked.map_err(|error| refuse(error.to_string()))?;
        Ok(settings)
    }

    /// The settings, in the order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.0.iter()
    }

    /// The paths to remove when these settings no longer apply. Of a setting of all desired properties
    /// that is each of its own properties: others may add theirs.
    pub fn paths(&self) -> Vec<Box<[Key]>> {
        let paths = self.0.iter().flat_map(|setting| match (&*setting.path, &setting.value) {
            (_, Value::Null) => Vec::new(),
            ([], Value::Object(all)) => all.iter().map(|(key, _)| vec![key.clone()].into()).collect(),
            (path, _) => vec![path.into()],
        });
        paths.collect()
    }

    fn is_same(&self, other: &Settings) -> bool {
        let same = |(a, b): (&Setting, &Setting)| a.path == b.path && is_same_value(&a.value, &b.value);
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(same)
    }

    fn as_object(&self) -> Object {
        let mut whole = Object::new();
        for setting in &self.0 {
            super::decide::set(&mut whole, &setting.path, &setting.value);
        }
        whole
    }
}

fn read_path(key: &str) -> Result<Box<[Key]>, ConfigurationError> {
    let wrong = |why: &str| refuse(format!("the key {:?} {why}", key.chars().take(128).collect::<String>()));
    let Some(rest) = key.strip_prefix(DESIRED) else {
        return Err(wrong("must start with properties.desired: a configuration sets nothing else"));
    };
    if rest.is_empty() {
        return Ok(Box::default());
    }
    let Some(rest) = rest.strip_prefix('.') else {
        return Err(wrong("must continue with a '.' behind properties.desired"));
    };
    let path: Box<[Key]> = rest.split('.').map(Key::from).collect();
    if path.iter().any(|name| name.is_empty()) {
        return Err(wrong("has an empty name between two dots"));
    }
    if path.len() > crate::limits::TWIN_DEPTH {
        return Err(wrong("is deeper than 10 levels"));
    }
    Ok(path)
}

fn shown(path: &[Key]) -> String {
    path.iter().fold(DESIRED.to_owned(), |text, name| text + "." + name)
}

/// A `null` inside an object stands for nothing there, as it does in a twin.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let kept = object.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        other => other.clone(),
    }
}

fn is_same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let same = |key: &Key, value| b.get(key).is_some_and(|other| is_same_value(value, other));
            a.len() == b.len() && a.iter().all(|(key, value)| same(key, value))
        }
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Content, String> {
        Content::read(&Object::parse(text.as_bytes()).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn content_is_of_one_kind() {
        let device = read(r#"{"deviceContent":{"properties.desired.a.b":1},"modulesContent":{}}"#).unwrap();
        let Content::Device(settings) = device else { panic!("it is for devices") };
        assert_eq!(settings.paths(), [["a".into(), "b".into()].into()]);
        assert!(matches!(read(r#"{"deviceContent":{}}"#), Ok(Content::Device(_))));
        let edge = read(r#"{"modulesContent":{"$edgeAgent":{"properties.desired":{"x":1,"y":{"z":null}}}}}"#);
        let edge = edge.unwrap();
        assert_eq!(edge.of_module("$edgeAgent").unwrap().paths().len(), 2);
        assert!(edge.of_module("$edgeHub").is_none());
    }

    #[test]
    fn what_cannot_be_applied_is_refused_with_its_reason() {
        let reasons = [
            (r"{}", "it needs one of"),
            (r#"{"deviceContent":[1]}"#, "deviceContent must be an object"),
            (
                r#"{"deviceContent":{"properties.desired.a":1},"moduleContent":{"properties.desired.a":1}}"#,
                "only one of",
            ),
            (r#"{"deviceContent":{"tags.a":1}}"#, "must start with properties.desired"),
            (r#"{"deviceContent":{"properties.desiredx":1}}"#, "must continue with a '.'"),
            (r#"{"deviceContent":{"properties.desired.a..b":1}}"#, "empty name"),
            (r#"{"deviceContent":{"properties.desired":5}}"#, "must be an object"),
            (
                r#"{"deviceContent":{"properties.desired.a":{"b":1},"properties.desired.a.b":1}}"#,
                "lies within",
            ),
            (r#"{"deviceContent":{"properties.desired.a":{"b.c":1}}}"#, "contains '.'"),
            (r#"{"deviceContent":{"properties.desired.a.b.c.d.e.f.g.h.i.j.k":1}}"#, "deeper than 10"),
            (r#"{"modulesContent":{"a/b":{}}}"#, "modulesContent.a/b"),
        ];
        for (text, reason) in reasons {
            let error = read(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn the_same_content_may_be_written_in_another_order() {
        let a = read(r#"{"deviceContent":{"properties.desired.a":{"x":1,"y":2},"properties.desired.b":3}}"#);
        let b = read(r#"{"deviceContent":{"properties.desired.b":3,"properties.desired.a":{"y":2,"x":1}}}"#);
        assert!(a.as_ref().unwrap().is_same(&b.unwrap()));
        let other = read(r#"{"deviceContent":{"properties.desired.b":3,"properties.desired.a":{"y":2}}}"#);
        assert!(!a.unwrap().is_same(&other.unwrap()));
    }
}
