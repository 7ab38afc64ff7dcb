//! The raw settings: every name that a flag, an environment variable or `ostler.toml` may carry,
//! with its default and its meaning, and the merge of those sources.
//!
//! Values stay text here, each with the place it came from, so that a refusal can name that place.
//! This file must not know what a value means; [`Config`](super::Config) parses them.
//!
//! Invariant: a name that is not in [`SETTINGS`] never enters a [`Settings`].
//! Invariant: when two sources name a setting, the later overlay wins.

use std::collections::BTreeMap;
use std::fmt;

/// One setting as the user meets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Name as in `--name` and as a key of `ostler.toml`.
    pub name: &'static str,
    /// Form and unit of the value, for people.
    pub form: &'static str,
    /// The default as it would be written; empty when there is none.
    pub default: &'static str,
    /// What it does.
    pub help: &'static str,
}

impl Setting {
    /// The environment variable that carries this setting: `OSTLER_` and the name in capitals.
    pub fn env(&self) -> String {
        format!("OSTLER_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }
}

const fn setting(
    name: &'static str,
    form: &'static str,
    default: &'static str,
    help: &'static str,
) -> Setting {
    Setting { name, form, default, help }
}

/// Every setting there is, in the order the documentation lists them.
pub const SETTINGS: &[Setting] = &[
    setting("data", "folder", "./ostler-data", "Where the hub keeps everything it must not lose."),
    setting("ephemeral", "true or false", "false", "Keep everything in memory and leave nothing behind."),
    setting("seed", "file", "", "JSON file with devices, twins and policies, loaded before the listeners open."),
    setting("hostname", "DNS name or IP address", "localhost", "The name clients dial; it stands in connection strings, tokens and the certificate."),
    setting("alt-names", "comma-separated names", "", "Further names and addresses clients may use; they are added to the certificate."),
    setting("bind", "IP address", "all addresses", "Where the listeners listen. Plain listeners stay on 127.0.0.1 unless `allow-plaintext` is set."),
    setting("mqtt-port", "port, 0 picks one", "8883", "MQTT over TLS."),
    setting("https-port", "port, 0 picks one", "443, else 8443", "REST, and MQTT over WebSocket. Without a value 443 is tried and 8443 taken where 443 may not be bound."),
    setting("plain-mqtt-port", "port, 0 picks one", "", "MQTT without TLS, for measurements or behind a proxy that ends TLS. Off without a value."),
    setting("plain-http-port", "port, 0 picks one", "", "REST without TLS, likewise."),
    setting("allow-plaintext", "true or false", "false", "Let the plain listeners listen beyond the loopback addresses."),
    setting("ready-file", "file", "", "Written, mode 0600, once all listeners accept: addresses, ports, CA file and the owner's connection string."),
    setting("compat", "`extended` or `strict`", "extended", "`strict` refuses what Azure IoT Hub would refuse, extensions included."),
    setting("workers", "threads, 0 = one per core", "0", "Threads that serve connections."),
    setting("drain-timeout", "duration", "10s", "How long calls in flight may take to finish once the hub is told to stop."),
    setting("log-format", "`text` or `json`", "text", "Form of the log lines on standard error."),
    setting("log", "filter", "info", "What is logged, for example `info,ostler_server=debug`."),
    setting("certificate", "file", "", "PEM chain of the server's own certificate. Without it one is made and renewed."),
    setting("certificate-key", "file", "", "PEM private key of `certificate`."),
    setting("ca-certificate", "file", "", "PEM certificate of a CA of your own. With `ca-key` it issues the server certificate; beside `certificate` it is only handed to clients."),
    setting("ca-key", "file", "", "PEM private key of `ca-certificate`."),
    setting("certificate-lifetime", "duration, 1h to 397d", "90d", "Lifetime of the certificates the hub makes; renewed when a third of it is left."),
    setting("max-connections", "connections, 0 = from the file limit", "0", "Connections at once, all listeners together. More wait in the kernel's queue."),
    setting("max-half-open", "connections", "20000", "Connections that have not signed in. Above it the oldest of them is closed."),
    setting("max-half-open-per-source", "connections", "2000", "The same for one source address; above it its new connections are closed."),
    setting("accept-rate", "connections per second, 0 = unlimited", "0", "How fast each listener accepts, to spread a reconnect storm."),
    setting("tls-handshake-timeout", "duration", "15s", "From accept to the end of the TLS handshake."),
    setting("connect-timeout", "duration", "60s", "From accept to a complete MQTT CONNECT."),
    setting("write-timeout", "duration", "30s", "How long a client may leave what it is sent unread before it is closed."),
    setting("mqtt-packet-rate", "packets per second, 0 = unlimited", "20000", "Packets handled per MQTT connection; a client above it is read more slowly."),
    setting("mqtt-output-limit", "bytes", "1048576", "Output waiting per MQTT connection before the hub stops serving it."),
    setting("query-columns-limit", "bytes, 0 = none", "134217728", "Memory for the columns that the hub builds of properties that queries ask for again and again."),
    setting("job-retention", "duration, 1d to 3650d", "30d", "How long a job that has ended, and what became of it on each device, can be looked up."),
    setting("message-ttl", "duration, 1m to 2d", "1h", "How long a message to a device waits when its sender does not say."),
    setting("message-deliveries", "times, 1 to 100", "10", "How often a message to a device is handed out before it is given up."),
    setting("files-limit", "bytes", "10737418240", "What the files that devices upload may take on the disk, all together."),
    setting("file-size-limit", "bytes", "1073741824", "What one uploaded file may have."),
    setting("file-disk-reserve", "bytes", "536870912", "What uploads leave free on the disk: twice what the hub keeps for its own data, so that files never stop it."),
    setting("file-upload-lifetime", "duration, 1m to 1d", "1h", "From the start of a file upload to its end; then its place is free and what was sent of it is removed."),
    setting("file-retention", "duration, 0s = until somebody deletes it", "0s", "How long an uploaded file is kept."),
    setting(
        "sign-in-failure-burst",
        "failures",
        "50",
        "Failed sign-ins a source address may make at once and be answered in full; above it answers come late and are counted only.",
    ),
    setting(
        "sign-in-failure-rate",
        "failures per second",
        "5",
        "How fast a source address earns further failures.",
    ),
    setting("clock-skew", "duration, 0s to 1h", "300s", "How far past its expiry a SAS token still counts, at sign-in and on a live connection."),
    setting("http-header-timeout", "duration", "30s", "From the start of an HTTP request to the end of its headers."),
    setting("http-idle-timeout", "duration", "120s", "How long an HTTP connection may rest between requests."),
    setting("http-body-timeout", "duration", "60s", "From the headers of an HTTP request to the end of its body."),
];

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A key of this configuration file.
    File(String),
    /// This environment variable.
    Environment(String),
    /// A command line flag.
    Flag,
}

/// A source said something that cannot be a setting at all.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingsError {
    /// The name is not one of [`SETTINGS`].
    #[error("{origin}: there is no setting `{name}`{}", hint(.name))]
    Unknown {
        /// The name as given.
        name: String,
        /// Where it was given.
        origin: String,
    },
    /// The file is not TOML.
    #[error("{file}: {problem}")]
    Toml {
        /// The file's name.
        file: String,
        /// The parser's words.
        problem: String,
    },
    /// A table or a date where a plain value belongs.
    #[error("{file}: `{name}` must be a plain value or a list of texts")]
    Shape {
        /// The file's name.
        file: String,
        /// The key.
        name: String,
    },
}

fn hint(name: &str) -> String {
    let close = SETTINGS.iter().find(|s| s.name.contains(name) || name.contains(s.name));
    close.map(|s| format!("; did you mean `{}`?", s.name)).unwrap_or_default()
}

/// Settings from one or more sources, not yet checked.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    values: BTreeMap<&'static str, (String, Source)>,
}

impl Settings {
    /// Nothing set: every default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads `ostler.toml`. Keys are the names of [`SETTINGS`], at the top level.
    ///
    /// # Errors
    /// Not TOML, a key that is no setting, a value that is a table or a date.
    pub fn from_toml(text: &str, file: &str) -> Result<Self, SettingsError> {
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| SettingsError::Toml {
            file: file.to_owned(),
            problem: e.to_string().trim_end().to_owned(),
        })?;
        let mut settings = Self::new();
        for (key, value) in &table {
            let text = toml_text(value)
                .ok_or_else(|| SettingsError::Shape { file: file.to_owned(), name: key.clone() })?;
            settings.insert(key, text, Source::File(file.to_owned()))?;
        }
        Ok(settings)
    }

    /// Picks the `OSTLER_*` variables that are settings out of an environment. Others that begin
    /// so are left alone: the CLI has a few of its own.
    pub fn from_env(vars: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut settings = Self::new();
        for (key, value) in vars {
            if let Some(setting) = SETTINGS.iter().find(|s| s.env() == key) {
                settings.values.insert(setting.name, (value, Source::Environment(key)));
            }
        }
        settings
    }

    /// Sets one value as a command line flag does.
    ///
    /// # Errors
    /// The name is not one of [`SETTINGS`].
    pub fn set(&mut self, name: &str, value: impl Into<String>) -> Result<(), SettingsError> {
        self.insert(name, value.into(), Source::Flag)
    }

    /// Puts `over` on top: what it sets, wins.
    #[must_use]
    pub fn overlay(mut self, over: Settings) -> Self {
        self.values.extend(over.values);
        self
    }

    /// The text of a setting and its source, if some source set it.
    pub fn value(&self, name: &str) -> Option<(&str, &Source)> {
        self.values.get(name).map(|(text, source)| (text.as_str(), source))
    }

    fn insert(&mut self, name: &str, value: String, source: Source) -> Result<(), SettingsError> {
        let setting = SETTINGS
            .iter()
            .find(|s| s.name == name)
            .ok_or_else(|| SettingsError::Unknown { name: name.to_owned(), origin: source.to_string() })?;
        self.values.insert(setting.name, (value, source));
        Ok(())
    }
}

fn toml_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(items) => {
            items.iter().map(toml::Value::as_str).collect::<Option<Vec<_>>>().map(|texts| texts.join(","))
        }
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(file) => f.write_str(file),
            Source::Environment(name) => f.write_str(name),
            Source::Flag => f.write_str("command line"),
        }
    }
}

/// The settings as a Markdown table, the body of `docs/configuration.md`.
pub fn markdown() -> String {
    let mut out = String::from("| setting | value | default | meaning |\n|---|---|---|---|\n");
    for s in SETTINGS {
        let default = if s.default.is_empty() { "–".to_owned() } else { format!("`{}`", s.default) };
        out.push_str(&format!("| `{}` | {} | {} | {} |\n", s.name, s.form, default, s.help));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table in the documentation is this one. `OSTLER_UPDATE_DOCS=1` writes it anew.
    #[test]
    fn the_documentation_lists_every_setting() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (before, _) = text.split_once("| setting | value |").unwrap_or((&text, ""));
        let current = format!("{before}{}", markdown());
        if std::env::var_os("OSTLER_UPDATE_DOCS").is_some() {
            std::fs::write(path, &current).unwrap();
        } else {
            assert!(text == current, "docs/configuration.md is not up to date");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = SETTINGS.iter().map(|s| s.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SETTINGS.len());
    }

    #[test]
    fn the_later_source_wins() {
        let file = Settings::from_toml("mqtt-port = 1\nhostname = 'a.b'", "ostler.toml").unwrap();
        let env = Settings::from_env([
            ("OSTLER_MQTT_PORT".to_owned(), "2".to_owned()),
            ("OSTLER_CONNECTION_STRING".to_owned(), "x".to_owned()),
        ]);
        let mut flags = Settings::new();
        flags.set("mqtt-port", "3").unwrap();
        let merged = file.overlay(env).overlay(flags);
        assert_eq!(merged.value("mqtt-port"), Some(("3", &Source::Flag)));
        assert_eq!(merged.value("hostname"), Some(("a.b", &Source::File("ostler.toml".into()))));
        assert_eq!(merged.value("data"), None);
    }

    #[test]
    fn toml_that_is_no_settings_is_refused() {
        for (text, expected) in [
            ("port = 1", "ostler.toml: there is no setting `port`; did you mean `mqtt-port`?"),
            ("zzz = 1", "ostler.toml: there is no setting `zzz`"),
            ("[mqtt-port]\na = 1", "ostler.toml: `mqtt-port` must be a plain value or a list of texts"),
        ] {
            assert_eq!(Settings::from_toml(text, "ostler.toml").unwrap_err().to_string(), expected);
        }
        assert!(matches!(Settings::from_toml("= 1", "f"), Err(SettingsError::Toml { .. })));
    }

    #[test]
    fn lists_become_comma_separated_text() {
        let settings = Settings::from_toml("alt-names = ['a.b', 'c.d']", "f").unwrap();
        assert_eq!(settings.value("alt-names").map(|v| v.0), Some("a.b,c.d"));
    }
}
