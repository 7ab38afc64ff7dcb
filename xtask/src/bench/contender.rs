//! The servers that take part: how each is started, and what the load generator needs to reach it.
//!
//! Invariant: all listen on loopback only, and on ports that the system gave out.

use super::Bench;
use crate::process::{available, Server};
use anyhow::{bail, Context, Result};
use serde_json::Value;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Who takes part in a benchmark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Ostler, addressed without TLS.
    Hub,
    /// Ostler, addressed with TLS.
    HubTls,
    /// The hub's topics and calls, with nothing behind them.
    Mock,
    /// The same over TLS.
    MockTls,
    /// Mosquitto without TLS.
    Mosquitto,
    /// Mosquitto with TLS.
    MosquittoTls,
    /// A server that accepts and keeps connections, nothing else.
    Accept,
    /// The same after a rustls handshake.
    AcceptTls,
    /// PostgreSQL with the twins as `jsonb` under a GIN index.
    Postgres,
    /// DuckDB with the queried properties in typed columns.
    DuckDb,
}

impl Kind {
    /// The name in results and tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Hub => "ostler",
            Kind::HubTls => "ostler, TLS",
            Kind::Mock => "mock hub",
            Kind::MockTls => "mock hub, TLS",
            Kind::Mosquitto => "Mosquitto",
            Kind::MosquittoTls => "Mosquitto, TLS",
            Kind::Accept => "bare acceptor",
            Kind::AcceptTls => "bare acceptor, TLS",
            Kind::Postgres => "PostgreSQL",
            Kind::DuckDb => "DuckDB",
        }
    }

    /// True for Ostler itself, by either door.
    pub fn is_hub(self) -> bool {
        matches!(self, Kind::Hub | Kind::HubTls)
    }

    /// True when devices have to be registered before they may connect.
    pub fn has_registry(self) -> bool {
        self.is_hub() || matches!(self, Kind::Mock | Kind::MockTls)
    }

    /// True when it can take part on this machine and in this run.
    pub fn present(self, bench: &Bench) -> bool {
        match self {
            Kind::Hub | Kind::HubTls => bench.hub.is_some(),
            Kind::Mosquitto | Kind::MosquittoTls => {
                available("mosquitto", &["-h"]) || Path::new("/usr/sbin/mosquitto").exists()
            }
            _ => true,
        }
    }
}

/// A running server.
pub struct Contender {
    /// The process; it ends when this is dropped.
    pub server: Server,
    /// Options that make the load generator speak to it.
    pub reach: String,
}

/// Starts one contender with nothing in it and waits until it accepts.
pub fn start(bench: &Bench, kind: Kind) -> Result<Contender> {
    let log = bench.work.join(format!("{}.log", kind.name().replace([' ', ','], "")));
    if kind.is_hub() {
        let data = bench.work.join(format!("data-{}", kind == Kind::HubTls));
        std::fs::remove_dir_all(&data).ok();
        return Hub::start(bench, &data, &log).map(|hub| hub.contender(kind));
    }
    let tls = tls_files(bench)?;
    let (port, second) = (free_port()?, free_port()?);
    let mut command = bench.command(&bench.rawlimit);
    let certificate = ["--cert".into(), tls.join("srv.pem"), "--key".into(), tls.join("srv.key")];
    let ca = tls.join("ca.pem").display().to_string();
    let trust = format!("--ca {ca} --tls-name localhost");
    let reach = match kind {
        Kind::Accept | Kind::AcceptTls => {
            command.arg("accept").arg("--port").arg(port.to_string());
            let reach = format!("--target raw --mqtt-port {port}");
            if kind == Kind::Accept {
                reach
            } else {
                with(&mut command, &certificate, format!("{reach} --tls {trust}"))
            }
        }
        Kind::Mock | Kind::MockTls => {
            command.arg("mockhub").args([
                "--mqtt-port",
                &port.to_string(),
                "--http-port",
                &second.to_string(),
            ]);
            let reach = format!(
                "--target hub --mqtt-port {port} --https-port {second} \
                 --connection-string HostName=localhost;SharedAccessKeyName=owner;SharedAccessKey=c2VjcmV0"
            );
            match kind {
                Kind::Mock => format!("{reach} --plain-mqtt --plain-http"),
                _ => with(&mut command, &certificate, format!("{reach} {trust}")),
            }
        }
        _ => {
            let path =
                if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
            command = bench.command(Path::new(path));
            command.arg("-c").arg(mosquitto_config(bench, kind, port, &tls)?);
            let reach = format!("--target mqtt --mqtt-port {port}");
            if kind == Kind::Mosquitto {
                reach
            } else {
                format!("{reach} --tls {trust}")
            }
        }
    };
    let mut server = Server::start(&mut command, &log)?;
    wait_for_port(&mut server, port)?;
    Ok(Contender { server, reach })
}

fn with(command: &mut Command, arguments: &[PathBuf], reach: String) -> String {
    command.args(arguments);
    reach
}

fn mosquitto_config(bench: &Bench, kind: Kind, port: u16, tls: &Path) -> Result<PathBuf> {
    // As fast as it goes: nothing kept on disk, no bound on what is in flight, no delay before small packets.
    let mut text = format!(
        "user root\nlog_type error\npersistence false\nset_tcp_nodelay true\nmax_inflight_messages 0\n\
         max_queued_messages 0\nlistener {port} 127.0.0.1\nallow_anonymous true\n"
    );
    if kind == Kind::MosquittoTls {
        let tls = tls.display();
        text += &format!("cafile {tls}/ca.pem\ncertfile {tls}/srv.pem\nkeyfile {tls}/srv.key\n");
    }
    let path = bench.work.join(format!("mosquitto-{port}.conf"));
    std::fs::write(&path, text)?;
    Ok(path)
}

/// The hub itself, with what its ready-file says.
pub struct Hub {
    server: Server,
    ready: Value,
    /// From the start of the process until every listener accepts.
    pub ready_after: Duration,
}

impl Hub {
    /// Starts the hub on this data folder, which may be empty or missing.
    pub fn start(bench: &Bench, data: &Path, log: &Path) -> Result<Self> {
        Self::start_with(bench, data, log, &[])
    }

    /// The same with more arguments.
    pub fn start_with(bench: &Bench, data: &Path, log: &Path, more: &[&Path]) -> Result<Self> {
        let ready_file = bench.work.join("ready.json");
        std::fs::remove_file(&ready_file).ok();
        let mut command = bench.command(bench.hub.as_deref().context("this run is without the hub")?);
        command
            .args(["serve", "--bind", "127.0.0.1", "--data"])
            .arg(data)
            .arg("--ready-file")
            .arg(&ready_file);
        for port in ["--mqtt-port", "--https-port", "--plain-mqtt-port", "--plain-http-port"] {
            command.args([port, "0"]);
        }
        command.args(more).env_remove("OSTLER_CONNECTION_STRING");
        let began = Instant::now();
        let mut server = Server::start(&mut command, log)?;
        while !ready_file.exists() {
            if !server.alive() || began.elapsed() > Duration::from_secs(600) {
                bail!("the hub did not become ready; see {}", log.display());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        let ready_after = began.elapsed();
        let ready = serde_json::from_slice(&std::fs::read(&ready_file)?).context("ready-file")?;
        Ok(Self { server, ready, ready_after })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Asks it to end and waits until it has.
    pub fn stop(mut self) -> Result<()> {
        crate::process::check(Command::new("kill").args(["-TERM", &self.pid().to_string()]))?;
        let began = Instant::now();
        while self.server.alive() {
            if began.elapsed() > Duration::from_secs(60) {
                bail!("the hub did not end within a minute of SIGTERM");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The hub as one of several contenders.
    pub fn contender(self, kind: Kind) -> Contender {
        let text = |name: &str| self.ready[name].as_str().unwrap_or_default();
        let port = |name: &str| self.ready[name].as_u64().unwrap_or_default();
        let owner = format!("--target hub --connection-string {}", text("connectionString"));
        let reach = match kind {
            Kind::HubTls => {
                format!(
                    "{owner} --mqtt-port {} --https-port {} --ca {}",
                    port("mqttPort"),
                    port("httpsPort"),
                    text("caFile")
                )
            }
            _ => format!(
                "{owner} --mqtt-port {} --https-port {} --plain-mqtt --plain-http",
                port("plainMqttPort"),
                port("plainHttpPort")
            ),
        };
        Contender { server: self.server, reach }
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn wait_for_port(server: &mut Server, port: u16) -> Result<()> {
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if !server.alive() || began.elapsed() > Duration::from_secs(20) {
            bail!("nothing accepts on port {port}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// A certificate authority and a server certificate for the yardsticks, made once.
fn tls_files(bench: &Bench) -> Result<PathBuf> {
    let dir = bench.work.join("tls");
    if dir.join("srv.pem").exists() {
        return Ok(dir);
    }
    std::fs::create_dir_all(&dir)?;
    std::fs::write(
        dir.join("ext"),
        "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n",
    )?;
    let key = "ecparam -name prime256v1 -genkey -noout -out";
    for arguments in [
        format!("{key} ca.key"),
        "req -x509 -new -key ca.key -days 30 -subj /CN=bench -addext basicConstraints=critical,CA:TRUE -out ca.pem".into(),
        format!("{key} srv.sec1"),
        "pkcs8 -topk8 -nocrypt -in srv.sec1 -out srv.key".into(),
        "req -new -key srv.key -subj /CN=localhost -out srv.csr".into(),
        "x509 -req -in srv.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile ext -out srv.pem".into(),
    ] {
        let output = Command::new("openssl").current_dir(&dir).args(arguments.split(' ')).output().context("openssl")?;
        if !output.status.success() {
            bail!("openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    Ok(dir)
}
