//! What can be checked without talking to a hub: limits, the data folder, ports.

use std::io;
use std::net::{Ipv6Addr, TcpListener};
use std::path::Path;

use rustix::fs::{access, statvfs, Access};
use rustix::process::{getrlimit, test_kill_process, Pid, Resource};

use super::Check;

/// Below it a hub serves fewer connections than one expects of it.
const WANTED_FILES: u64 = 65_536;
/// Free space below which it is time to act, and below which it is late.
const LOW_SPACE: u64 = 2 << 30;
const NO_SPACE: u64 = 200 << 20;

pub fn file_descriptors() -> Check {
    let limit = getrlimit(Resource::Nofile);
    let text = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    let message = format!("{} open files now, {} at most", text(limit.current), text(limit.maximum));
    // The hub raises the first to the second by itself.
    if limit.maximum.is_none_or(|maximum| maximum >= WANTED_FILES) {
        return Check::ok("files", message);
    }
    Check::warning("files", message).advise(
        "Each connection takes one. Raise it: LimitNOFILE=1048576 in the systemd unit, or `nofile` in \
         /etc/security/limits.conf",
    )
}

pub fn data_folder(folder: &Path) -> Vec<Check> {
    let shown = folder.display();
    if !folder.exists() {
        let parent = match folder.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        return vec![match access(parent, Access::WRITE_OK | Access::EXEC_OK) {
            Ok(()) => Check::ok("data", format!("{shown} does not exist yet and can be made")),
            Err(error) => Check::error("data", format!("{shown} cannot be made: {}", io::Error::from(error)))
                .advise("Choose a folder with --data, or make it and give it to the hub's user"),
        }];
    }
    let writable = match access(folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Check::ok("data", format!("{shown} can be written")),
        Err(error) => Check::error("data", format!("{shown}: {}", io::Error::from(error)))
            .advise("Give it to the user that runs the hub"),
    };
    vec![writable, free_space(folder)]
}

fn free_space(folder: &Path) -> Check {
    let stat = match statvfs(folder) {
        Ok(stat) => stat,
        Err(error) => return Check::warning("space", io::Error::from(error).to_string()),
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let message = format!("{:.1} GiB free", free as f64 / (1u64 << 30) as f64);
    let advice = "Writes are refused when the disk is full; make room or move the data folder";
    if free < NO_SPACE {
        Check::error("space", message).advise(advice)
    } else if free < LOW_SPACE {
        Check::warning("space", message).advise(advice)
    } else {
        Check::ok("space", message)
    }
}

pub fn process(pid: u32) -> Check {
    let alive = i32::try_from(pid).ok().and_then(Pid::from_raw).map(test_kill_process);
    match alive {
        // Not being allowed to signal it shows that it is there.
        Some(Ok(()) | Err(rustix::io::Errno::PERM)) => Check::ok("hub", format!("runs as process {pid}")),
        _ => Check::error("hub", format!("process {pid} of hub.json is gone; it did not stop cleanly"))
            .advise("Start it again with `ostler serve`; nothing acknowledged is lost"),
    }
}

/// The ports a hub would take, when none runs.
pub fn ports_free() -> Vec<Check> {
    let mqtt = port_free("mqtt-port", 8883).unwrap_or_else(|error| {
        Check::error("mqtt-port", format!("8883: {error}"))
            .advise("Another program has it; stop that, or choose a port with --mqtt-port")
    });
    let https = port_free("https-port", 443).or_else(|first| {
        port_free("https-port", 8443)
            .map(|check| Check { message: format!("443: {first}; 8443 is free and will be taken"), ..check })
    });
    let https = https.unwrap_or_else(|error| {
        Check::error("https-port", format!("neither 443 nor 8443 can be taken; 8443: {error}"))
            .advise("Another program has it; stop that, or choose a port with --https-port")
    });
    vec![mqtt, https]
}

/// Takes the port for a moment, as the hub would.
fn port_free(name: &'static str, port: u16) -> io::Result<Check> {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|error| match error.kind() {
            // A machine without IPv6 says so in several ways; only these two speak about the port.
            io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
            _ => TcpListener::bind(("0.0.0.0", port)),
        })
        .map(|_| Check::ok(name, format!("{port} is free")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ostler_service_sdk::Severity;

    #[test]
    fn a_taken_port_is_found_taken() {
        let taken = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0))
            .or_else(|_| TcpListener::bind(("0.0.0.0", 0)))
            .unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_eq!(port_free("p", port).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn data_folders() {
        let folder = tempfile::tempdir().unwrap();
        let severities =
            |path: &Path| -> Vec<_> { data_folder(path).into_iter().map(|check| check.severity).collect() };
        assert_eq!(severities(folder.path())[0], Severity::Ok);
        assert_eq!(severities(&folder.path().join("new")), [Severity::Ok]);
        assert_eq!(severities(&folder.path().join("not/there")), [Severity::Error]);
    }

    #[test]
    fn this_process_runs_and_an_impossible_one_does_not() {
        assert_eq!(process(std::process::id()).severity, Severity::Ok);
        assert_eq!(process(u32::MAX).severity, Severity::Error);
    }
}
