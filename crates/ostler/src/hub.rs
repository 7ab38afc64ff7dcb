//! Finds the hub a command talks to: by connection string, or through the data folder of a local one.
//!
//! Must not know: what the command wants from it.
//!
//! Invariant: an explicit connection string always wins over the data folder.

use std::fs;
use std::io;
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use ostler_service_sdk::{Builder, Client, ConnectionString, RetryPolicy};
use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure, Result};

/// The data folder when none is named.
pub const DEFAULT_DATA: &str = "ostler-data";

/// Which hub to talk to.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Hub")]
pub struct HubOptions {
    /// Connection string of the hub; without it the local hub of the data folder is used
    #[arg(
        long,
        global = true,
        env = "OSTLER_CONNECTION_STRING",
        hide_env_values = true,
        value_name = "TEXT"
    )]
    pub connection_string: Option<String>,

    /// CA that the hub's certificate comes from (PEM), besides those of the system
    #[arg(long, global = true, env = "OSTLER_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// Data folder of the local hub
    #[arg(long, global = true, env = "OSTLER_DATA", value_name = "FOLDER", default_value = DEFAULT_DATA)]
    pub data: PathBuf,

    /// Give up after one attempt instead of retrying
    #[arg(long, global = true)]
    pub no_retry: bool,
}

/// `<data>/hub.json` and `--ready-file`: what a running hub says about itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HubFile {
    pub hostname: String,
    pub mqtt_port: u16,
    pub https_port: u16,
    #[serde(default)]
    pub plain_mqtt_port: Option<u16>,
    #[serde(default)]
    pub plain_http_port: Option<u16>,
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    #[serde(default)]
    pub data_dir: Option<PathBuf>,
    pub pid: u32,
    pub connection_string: String,
}

/// A hub found, before it is dialled.
#[derive(Debug, Clone)]
pub enum Target {
    /// Named by a connection string.
    Remote { connection_string: ConnectionString, ca: Option<PathBuf> },
    /// Runs on this machine.
    Local { hub: HubFile, connection_string: ConnectionString, ca: Option<PathBuf> },
}

impl HubOptions {
    /// Finds the hub, without dialling it.
    pub fn target(&self) -> Result<Target> {
        if let Some(text) = &self.connection_string {
            let connection_string = parse_connection_string(text, "the connection string")?;
            return Ok(Target::Remote { connection_string, ca: self.ca.clone() });
        }
        let hub = self.local_hub()?;
        let connection_string = parse_connection_string(&hub.connection_string, "hub.json")?;
        let ca = self.ca.clone().or_else(|| hub.ca_file.clone());
        Ok(Target::Local { hub, connection_string, ca })
    }

    /// What the local hub wrote about itself.
    pub fn local_hub(&self) -> Result<HubFile> {
        let path = self.data.join("hub.json");
        let bytes = fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Failure::new(
                Exit::Unreachable,
                format!("no hub is running on the data folder {}", self.data.display()),
            )
            .advise(
                "Start one with `ostler serve`, or name the hub with --data or --connection-string \
                 (OSTLER_CONNECTION_STRING)",
            ),
            io::ErrorKind::PermissionDenied => Failure::file(&path, &error)
                .advise("It holds the owner's key: run this as the user that runs the hub"),
            _ => Failure::file(&path, &error),
        })?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Failure::failed(format!("{}: not what a hub writes: {error}", path.display())))
    }

    /// A client for the hub.
    pub fn client(&self) -> Result<Client> {
        self.target()?.client(self.retry())
    }

    fn retry(&self) -> RetryPolicy {
        if self.no_retry {
            return RetryPolicy::none();
        }
        // A person waits in front of it: give up sooner than a back end would.
        RetryPolicy { budget: Duration::from_secs(10), ..RetryPolicy::default() }
    }
}

impl Target {
    pub fn connection_string(&self) -> &ConnectionString {
        match self {
            Self::Remote { connection_string, .. } | Self::Local { connection_string, .. } => {
                connection_string
            }
        }
    }

    pub fn ca(&self) -> Option<&Path> {
        match self {
            Self::Remote { ca, .. } | Self::Local { ca, .. } => ca.as_deref(),
        }
    }

    /// Host and port of the REST door as dialled.
    pub fn https(&self) -> (String, u16) {
        match self {
            Self::Remote { connection_string, .. } => {
                (connection_string.host().to_owned(), connection_string.port().unwrap_or(443))
            }
            Self::Local { hub, .. } => (local_name(&hub.hostname, hub.https_port), hub.https_port),
        }
    }

    pub fn client(&self, retry: RetryPolicy) -> Result<Client> {
        let (host, port) = self.https();
        let mut builder = Builder::new(self.connection_string().clone())
            .dial(host)
            .port(port)
            .retry(retry)
            .connect_timeout(Duration::from_secs(5))
            .user_agent(concat!("ostler/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = self.ca() {
            let pem = fs::read(path).map_err(|error| Failure::file(path, &error))?;
            builder = builder.root_ca_pem(pem);
        }
        if matches!(self, Self::Local { ca: Some(_), .. }) {
            // The hub's own CA is all it takes, and reading the system's costs more than most commands.
            builder = builder.without_system_roots();
        }
        Ok(builder.build()?)
    }
}

/// A local hub may serve under a name that only its devices can resolve; its certificate names the loopback
/// addresses too.
fn local_name(hostname: &str, port: u16) -> String {
    let resolves = (hostname, port).to_socket_addrs().is_ok_and(|mut addrs| addrs.next().is_some());
    if resolves { hostname } else { "localhost" }.to_owned()
}

fn parse_connection_string(text: &str, origin: &str) -> Result<ConnectionString> {
    text.parse().map_err(|error| Failure::usage(format!("{origin}: {error}")))
}
