//! The checked configuration: one value that says everything the server was told, parsed once.
//!
//! It must not read files, clocks or sockets beyond what a [`Settings`] holds: what depends on the
//! machine (a port that is taken, a missing key file) is found by whoever uses the value.
//!
//! Invariant: a [`Config`] exists only if every setting parsed and no two contradict each other.
//! Invariant: precedence is flags, then environment, then file, then default.

pub mod settings;

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ostler_core::query::Dialect;

pub use settings::{Settings, SettingsError, Source, SETTINGS};

/// Where the hub keeps its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// This folder, made if it is missing.
    Folder(PathBuf),
    /// Nowhere: gone when the process ends.
    Memory,
}

/// Which port a listener takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Exactly this one; 0 lets the system pick.
    Fixed(u16),
    /// The first, or the second where the first may not be bound.
    Either(u16, u16),
}

/// Where the listeners listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bind {
    /// Every address, IPv6 and IPv4.
    All,
    /// This address only.
    Address(IpAddr),
}

/// What the hub does with requests that Azure IoT Hub would refuse but Ostler can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compat {
    /// Serve them.
    Extended,
    /// Refuse them as Azure does.
    Strict,
}

impl Compat {
    /// The query language that goes with it.
    pub const fn dialect(self) -> Dialect {
        match self {
            Compat::Extended => Dialect::Extended,
            Compat::Strict => Dialect::Strict,
        }
    }
}

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Where the server certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSource {
    /// A private CA, made on first start, issues it.
    OwnCa,
    /// This CA issues it.
    GivenCa {
        /// PEM file of the CA certificate.
        certificate: PathBuf,
        /// PEM file of its private key.
        key: PathBuf,
    },
    /// It is given, with its chain; nothing is issued or renewed.
    Given {
        /// PEM file of the chain, leaf first.
        certificate: PathBuf,
        /// PEM file of the leaf's private key.
        key: PathBuf,
        /// PEM file of the CA that clients must be told to trust, if they do not already.
        ca: Option<PathBuf>,
    },
}

/// Addresses and ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Where the TLS listeners listen.
    pub bind: Bind,
    /// Where the plain listeners listen.
    pub plain_bind: Bind,
    /// MQTT over TLS.
    pub mqtt: Port,
    /// HTTPS.
    pub https: Port,
    /// Plain MQTT, if wanted.
    pub plain_mqtt: Option<u16>,
    /// Plain HTTP, if wanted.
    pub plain_http: Option<u16>,
}

/// Certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Where the server certificate comes from.
    pub source: CertificateSource,
    /// Lifetime of issued server certificates.
    pub lifetime: Duration,
}

/// Every bound the front ends keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once over all listeners; `None` takes it from the process's file limit.
    pub max_connections: Option<usize>,
    /// Connections that have not signed in yet.
    pub max_half_open: usize,
    /// The same for one source address.
    pub max_half_open_per_source: usize,
    /// Accepts per second and listener; `None` is unlimited.
    pub accept_rate: Option<u32>,
    /// From accept to the end of the TLS handshake.
    pub tls_handshake_timeout: Duration,
    /// From accept to a complete MQTT CONNECT.
    pub connect_timeout: Duration,
    /// How long output may wait for the client to read.
    pub write_timeout: Duration,
    /// Packets per second and MQTT connection; `None` is unlimited.
    pub mqtt_packet_rate: Option<u32>,
    /// Bytes of output that may wait per MQTT connection.
    pub mqtt_output: usize,
    /// Bytes of the columns that the store builds for queries.
    pub query_columns: u64,
    /// How long a job that has ended is kept.
    pub job_retention: Duration,
    /// How long a message to a device waits when its sender does not say.
    pub message_ttl: Duration,
    /// How often such a message is handed out.
    pub message_deliveries: u32,
    /// Bytes of all uploaded files.
    pub files_total: u64,
    /// Bytes of one uploaded file.
    pub file_size: u64,
    /// Bytes that uploads leave free on the disk.
    pub file_disk_reserve: u64,
    /// From the start of a file upload to its end.
    pub file_upload_lifetime: Duration,
    /// How long an uploaded file is kept; zero is until somebody deletes it.
    pub file_retention: Duration,
    /// Failed sign-ins a source may make at once.
    pub sign_in_failure_burst: u32,
    /// Failures per second that a source earns anew.
    pub sign_in_failure_rate: u32,
    /// How far past its expiry a SAS token still counts.
    pub clock_skew: Duration,
    /// From the start of an HTTP request to the end of its headers.
    pub http_header_timeout: Duration,
    /// How long an HTTP connection may rest between requests.
    pub http_idle_timeout: Duration,
    /// From the headers of an HTTP request to the end of its body.
    pub http_body_timeout: Duration,
}

/// Everything the server was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where state is kept.
    pub data: Data,
    /// File to load before the listeners open.
    pub seed: Option<PathBuf>,
    /// The hub's name, lower case.
    pub hostname: String,
    /// Further names and addresses clients may use, lower case.
    pub alt_names: Vec<String>,
    /// Addresses and ports.
    pub listen: Listen,
    /// File written once the listeners accept.
    pub ready_file: Option<PathBuf>,
    /// Extensions on or off.
    pub compat: Compat,
    /// Threads that serve connections; never 0.
    pub workers: usize,
    /// How long a drain may take.
    pub drain_timeout: Duration,
    /// Form of the log lines.
    pub log_format: LogFormat,
    /// What is logged, in `tracing`'s filter syntax.
    pub log: String,
    /// Certificates.
    pub tls: Tls,
    /// Bounds.
    pub limits: Limits,
}

/// One setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting.
    pub name: &'static str,
    /// Where its value came from; `None` for a default.
    pub source: Option<Source>,
    /// What is wrong and what would be right.
    pub text: String,
}

/// Every problem found, so that one start shows all of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "setting `{}`", self.name)?;
        if let Some(source) = &self.source {
            write!(f, " ({source})")?;
        }
        write!(f, ": {}", self.text)
    }
}

impl Config {
    /// Parses and checks the merged settings.
    ///
    /// # Errors
    /// Names every setting that does not parse or contradicts another.
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let mut reader = Reader { settings, problems: Vec::new() };
        let config = reader.config();
        if reader.problems.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError { problems: reader.problems })
        }
    }

    /// A hub in memory on free loopback ports, as tests and `ostler demo` start it.
    pub fn ephemeral() -> Self {
        let mut settings = Settings::new();
        for (name, value) in
            [("ephemeral", "true"), ("bind", "127.0.0.1"), ("mqtt-port", "0"), ("https-port", "0")]
        {
            settings.set(name, value).expect("the names above are in the table");
        }
        Self::from_settings(&settings).expect("the values above and the defaults parse")
    }

    /// Every name a client may give for this hub, lower case, the main one first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.hostname.as_str()).chain(self.alt_names.iter().map(String::as_str))
    }
}

/// Reads settings one by one and gathers what is wrong with them.
struct Reader<'a> {
    settings: &'a Settings,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn config(&mut self) -> Config {
        let listen = self.listen();
        let workers = match self.number("workers", 0, 256) {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        Config {
            data: self.data(),
            seed: self.path("seed"),
            hostname: self.names("hostname").pop().unwrap_or_default(),
            alt_names: self.names("alt-names"),
            listen,
            ready_file: self.path("ready-file"),
            compat: self.word("compat", &[("extended", Compat::Extended), ("strict", Compat::Strict)]),
            workers,
            drain_timeout: self.duration("drain-timeout", Duration::ZERO, HOUR),
            log_format: self.word("log-format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]),
            log: self.text("log").to_owned(),
            tls: self.tls(),
            limits: self.limits(),
        }
    }

    fn data(&mut self) -> Data {
        let folder = self.text("data");
        if self.flag("ephemeral") {
            if self.settings.value("data").is_some() {
                self.refuse("ephemeral", "contradicts `data`: with it nothing is kept in a folder");
            }
            return Data::Memory;
        }
        if folder.is_empty() {
            self.refuse("data", "must name a folder");
        }
        Data::Folder(PathBuf::from(folder))
    }

    fn listen(&mut self) -> Listen {
        let bind = match self.settings.value("bind").map(|v| v.0) {
            None => Bind::All,
            Some(text) => match text.parse() {
                Ok(address) => Bind::Address(address),
                Err(_) => {
                    self.refuse("bind", &format!("`{text}` is not an IP address"));
                    Bind::All
                }
            },
        };
        let allowed = self.flag("allow-plaintext");
        let loopback = matches!(bind, Bind::Address(address) if address.is_loopback());
        let plain_bind = match bind {
            Bind::All if !allowed => Bind::Address(IpAddr::from([127, 0, 0, 1])),
            other => other,
        };
        let plain_mqtt = self.optional_port("plain-mqtt-port");
        let plain_http = self.optional_port("plain-http-port");
        for (name, port) in [("plain-mqtt-port", plain_mqtt), ("plain-http-port", plain_http)] {
            if port.is_some() && !allowed && !loopback && bind != Bind::All {
                self.refuse(
                    name,
                    "a listener without TLS beyond the loopback address shows keys and data to the network; \
                     bind to 127.0.0.1, or set `allow-plaintext` if a proxy in front ends TLS",
                );
            }
        }
        let https = match self.optional_port("https-port") {
            Some(port) => Port::Fixed(port),
            None => Port::Either(443, 8443),
        };
        Listen { bind, plain_bind, mqtt: Port::Fixed(self.port("mqtt-port")), https, plain_mqtt, plain_http }
    }

    fn tls(&mut self) -> Tls {
        let (certificate, key) = (self.path("certificate"), self.path("certificate-key"));
        let (ca, ca_key) = (self.path("ca-certificate"), self.path("ca-key"));
        let source = match (certificate, key, ca, ca_key) {
            (None, None, None, None) => CertificateSource::OwnCa,
            (Some(certificate), Some(key), ca, None) => CertificateSource::Given { certificate, key, ca },
            (None, None, Some(certificate), Some(key)) => CertificateSource::GivenCa { certificate, key },
            (certificate, key, _, _) => {
                match (certificate.is_some(), key.is_some()) {
                    (true, true) => {
                        self.refuse("ca-key", "has no use beside `certificate`, which is not issued here")
                    }
                    (false, false) => {
                        self.refuse("ca-certificate", "belongs together with `ca-key`: set both or none")
                    }
                    _ => self
                        .refuse("certificate", "belongs together with `certificate-key`: set both or none"),
                }
                CertificateSource::OwnCa
            }
        };
        Tls { source, lifetime: self.duration("certificate-lifetime", HOUR, 397 * DAY) }
    }

    fn limits(&mut self) -> Limits {
        let second = Duration::from_secs(1);
        Limits {
            max_connections: self.max_connections(),
            max_half_open: self.number("max-half-open", 1, 10_000_000),
            max_half_open_per_source: self.number("max-half-open-per-source", 1, 10_000_000),
            accept_rate: none_if_zero(self.number("accept-rate", 0, 1_000_000)),
            tls_handshake_timeout: self.duration("tls-handshake-timeout", second, HOUR),
            connect_timeout: self.duration("connect-timeout", second, HOUR),
            write_timeout: self.duration("write-timeout", second, HOUR),
            mqtt_packet_rate: none_if_zero(self.number("mqtt-packet-rate", 0, 10_000_000)),
            mqtt_output: self.number("mqtt-output-limit", 1 << 16, 1 << 30),
            query_columns: self.number("query-columns-limit", 0, 1 << 40),
            job_retention: self.duration("job-retention", DAY, 3650 * DAY),
            message_ttl: self.duration("message-ttl", Duration::from_secs(60), 2 * DAY),
            message_deliveries: self.number("message-deliveries", 1, 100),
            files_total: self.number("files-limit", 0, 1 << 50),
            file_size: self.number("file-size-limit", 1, 1 << 42),
            file_disk_reserve: self.number("file-disk-reserve", 0, 1 << 50),
            file_upload_lifetime: self.duration("file-upload-lifetime", Duration::from_secs(60), DAY),
            file_retention: self.duration("file-retention", Duration::ZERO, 3650 * DAY),
            sign_in_failure_burst: self.number("sign-in-failure-burst", 1, 1_000_000),
            sign_in_failure_rate: self.number("sign-in-failure-rate", 0, 1_000_000),
            clock_skew: self.duration("clock-skew", Duration::ZERO, HOUR),
            http_header_timeout: self.duration("http-header-timeout", second, HOUR),
            http_idle_timeout: self.duration("http-idle-timeout", second, DAY),
            http_body_timeout: self.duration("http-body-timeout", second, HOUR),
        }
    }

    /// Every listener holds one place ready, so a few are not enough.
    fn max_connections(&mut self) -> Option<usize> {
        let number = self.number("max-connections", 0, 10_000_000);
        if (1..16).contains(&number) {
            self.refuse("max-connections", "must be 0 or at least 16");
        }
        none_if_zero(number)
    }

    fn refuse(&mut self, name: &'static str, text: &str) {
        let source = self.settings.value(name).map(|v| v.1.clone());
        self.problems.push(Problem { name, source, text: text.to_owned() });
    }

    fn text(&self, name: &'static str) -> &'a str {
        let default = || SETTINGS.iter().find(|s| s.name == name).map_or("", |s| s.default);
        self.settings.value(name).map_or_else(default, |v| v.0)
    }

    fn path(&mut self, name: &'static str) -> Option<PathBuf> {
        let text = self.text(name);
        (!text.is_empty()).then(|| PathBuf::from(text))
    }

    fn flag(&mut self, name: &'static str) -> bool {
        self.word(name, &[("false", false), ("true", true)])
    }

    /// One of a few words; the first stands in for one that is none of them.
    fn word<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)]) -> T {
        let text = self.text(name);
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        found.unwrap_or_else(|| {
            let known: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
            let text = format!("`{text}` is none of {}", known.join(", "));
            self.refuse(name, &text);
            words[0].1
        })
    }

    fn number<T>(&mut self, name: &'static str, least: T, most: T) -> T
    where
        T: FromStr + PartialOrd + std::fmt::Display + Copy,
    {
        let text = self.text(name);
        match text.parse::<T>() {
            Ok(value) if value >= least && value <= most => value,
            _ => {
                let text = format!("`{text}` is not a whole number from {least} to {most}");
                self.refuse(name, &text);
                least
            }
        }
    }

    fn port(&mut self, name: &'static str) -> u16 {
        self.number(name, 0, u16::MAX)
    }

    fn optional_port(&mut self, name: &'static str) -> Option<u16> {
        let set = self.settings.value(name).is_some_and(|v| !v.0.is_empty());
        set.then(|| self.port(name))
    }

    fn duration(&mut self, name: &'static str, least: Duration, most: Duration) -> Duration {
        let text = self.text(name);
        match parse_duration(text) {
            Some(value) if value >= least && value <= most => value,
            Some(_) => {
                let text = format!("`{text}` is not between {least:?} and {most:?}");
                self.refuse(name, &text);
                least
            }
            None => {
                let text = format!("`{text}` is not a duration such as `500ms`, `30s`, `5m`, `2h` or `90d`");
                self.refuse(name, &text);
                least
            }
        }
    }

    fn names(&mut self, name: &'static str) -> Vec<String> {
        let text = self.text(name).to_ascii_lowercase();
        let names: Vec<String> = text.split(',').map(|n| n.trim().to_owned()).collect();
        if text.is_empty() && name == "alt-names" {
            return Vec::new();
        }
        for one in names.iter().filter(|n| !is_host_name(n)) {
            let text = format!("`{one}` is not a DNS name or an IP address (no scheme, no port)");
            self.refuse(name, &text);
        }
        if name == "hostname" && names.len() != 1 {
            self.refuse(name, "takes one name; further ones belong in `alt-names`");
        }
        names
    }
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn none_if_zero<T: PartialEq + From<u8>>(value: T) -> Option<T> {
    (value != T::from(0)).then_some(value)
}

/// `500ms`, `30s`, `5m`, `2h`, `90d`; a bare number counts seconds.
fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let secs = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return None,
    };
    number.checked_mul(secs).map(Duration::from_secs)
}

fn is_host_name(name: &str) -> bool {
    if name.parse::<IpAddr>().is_ok() {
        return true;
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(set: &[(&str, &str)]) -> Result<Config, String> {
        let mut settings = Settings::new();
        for (name, value) in set {
            settings.set(name, *value).unwrap();
        }
        Config::from_settings(&settings).map_err(|e| e.to_string())
    }

    #[test]
    fn every_default_parses() {
        let config = check(&[]).unwrap();
        assert_eq!(config.data, Data::Folder("./ostler-data".into()));
        assert_eq!(config.listen.https, Port::Either(443, 8443));
        assert_eq!(config.listen.bind, Bind::All);
        assert!(config.workers > 0);
        assert_eq!(config.limits.connect_timeout, Duration::from_secs(60));
        assert_eq!(config.limits.mqtt_packet_rate, Some(20_000));
        assert_eq!(config.limits.accept_rate, None);
    }

    #[test]
    fn refusals_name_the_setting_the_source_and_the_reason() {
        for (set, expected) in [
            (&[("mqtt-port", "70000")][..], "setting `mqtt-port` (command line): `70000` is not a whole number from 0 to 65535"),
            (&[("compat", "loose")], "setting `compat` (command line): `loose` is none of `extended`, `strict`"),
            (&[("write-timeout", "soon")], "setting `write-timeout` (command line): `soon` is not a duration such as `500ms`, `30s`, `5m`, `2h` or `90d`"),
            (&[("write-timeout", "10ms")], "setting `write-timeout` (command line): `10ms` is not between 1s and 3600s"),
            (&[("bind", "localhost")], "setting `bind` (command line): `localhost` is not an IP address"),
            (&[("hostname", "https://a.b")], "setting `hostname` (command line): `https://a.b` is not a DNS name or an IP address (no scheme, no port)"),
            (&[("hostname", "a.b,c.d")], "setting `hostname` (command line): takes one name; further ones belong in `alt-names`"),
            (&[("certificate", "a.pem")], "setting `certificate` (command line): belongs together with `certificate-key`: set both or none"),
            (&[("ephemeral", "true"), ("data", "x")], "setting `ephemeral` (command line): contradicts `data`: with it nothing is kept in a folder"),
        ] {
            assert_eq!(check(set).unwrap_err(), expected);
        }
    }

    #[test]
    fn all_problems_show_at_once() {
        let error = check(&[("mqtt-port", "x"), ("workers", "-1")]).unwrap_err();
        assert_eq!(error.lines().count(), 2, "{error}");
    }

    #[test]
    fn plain_listeners_stay_on_loopback_unless_allowed() {
        let loopback = Bind::Address(IpAddr::from([127, 0, 0, 1]));
        let plain = ("plain-mqtt-port", "1883");
        assert_eq!(check(&[plain]).unwrap().listen.plain_bind, loopback);
        assert_eq!(check(&[plain, ("bind", "127.0.0.1")]).unwrap().listen.plain_bind, loopback);
        assert!(check(&[plain, ("bind", "0.0.0.0")]).unwrap_err().contains("without TLS"));
        assert!(check(&[plain, ("bind", "192.0.2.1")]).unwrap_err().contains("without TLS"));
        let open = check(&[plain, ("allow-plaintext", "true")]).unwrap();
        assert_eq!(open.listen.plain_bind, Bind::All);
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("500ms", Some(500)),
            ("2s", Some(2_000)),
            ("2", Some(2_000)),
            ("1d", Some(86_400_000)),
            ("", None),
            ("s", None),
            ("1w", None),
            ("-1s", None),
            ("99999999999999999999d", None),
        ] {
            assert_eq!(parse_duration(text), expected.map(Duration::from_millis), "{text}");
        }
    }
}
