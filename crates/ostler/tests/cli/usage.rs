//! What needs no hub: help, wrong usage, exit codes, colours, closed pipes.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::support::{ostler, Ran};

/// A connection string nobody answers to: port 1 of this machine.
const NOBODY: &str = "HostName=localhost:1;SharedAccessKeyName=p;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==";

fn run(args: &[&str]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    Ran::of(ostler(args).current_dir(folder.path()).output().unwrap())
}

#[test]
fn every_verb_explains_itself() {
    let help = run(&["--help"]).ok().stdout;
    assert!(help.contains("Exit codes:"), "{help}");
    for verb in [
        "serve",
        "demo",
        "device",
        "module",
        "twin",
        "query",
        "method",
        "config",
        "policy",
        "ca",
        "monitor",
        "simulate",
        "doctor",
        "firmware",
        "status",
        "backup",
        "completions",
    ] {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb} is not in the help");
        run(&[verb, "--help"]).ok();
    }
}

#[test]
fn wrong_usage_is_2() {
    for args in [
        &["device", "create"][..],
        &["device", "create", "a/b"],
        &["device", "create", "--prefix", "a"],
        &["device", "create", "a", "--key", "x", "--x509-ca"],
        &["device", "list", "--top", "5", "--all"],
        &["module", "show", "only-a-device"],
        &["twin", "set", "d", "desired", "novalue"],
        &["twin", "set", "d", "reported", "a=1"],
        &["method", "invoke", "d", "m", "{oops"],
        &["method", "invoke", "d", "m", "--timeout", "4"],
        &["query"],
        &["query", "*", "--watch=x"],
        &["query", "*", "--for", "1"],
        &["query", "*", "--file", "q"],
        &["status", "-o", "csv"],
        &["job", "create", "method", "m"],
        &["job", "create", "method", "m", "--query", "*", "--device", "d"],
        &["job", "create", "method", "m", "--query", "*", "--start", "soon"],
        &["job", "create", "method", "m", "--query", "*", "--wave-sizes", "1", "--wave-percent", "1"],
        &["job", "create", "method", "m", "--query", "*", "--dry-run", "--wait"],
        &["job", "create", "twin", "--query", "*"],
        &["job", "create", "twin", "--query", "*", "--patch", "{}", "--tag", "a=1"],
        &["job", "list", "--status", "canceled"],
        &["policy", "create", "p"],
        &["config", "create", "c", "--condition", "*"],
        &["config", "create", "c", "--set", "a=1"],
        &["config", "create", "c", "--condition", "*", "--set", "a"],
        &["config", "test"],
        &["serve", "--mqtt-port", "x"],
        &["serve", "--no-such-setting", "1"],
        &["serve", "--ephemeral", "--data", "x"],
        &["completions", "tcsh"],
        &["nonsense"],
    ] {
        run(args).fails(2);
    }
    run(&["device", "list", "--connection-string", "HostName=h"]).fails(2);
}

#[test]
fn no_hub_is_6_and_says_what_to_do() {
    let ran = run(&["device", "list"]).fails(6);
    assert!(ran.stderr.contains("ostler serve") && ran.stderr.lines().count() == 1, "{}", ran.stderr);
    let ran = run(&["device", "list", "--no-retry", "--connection-string", NOBODY]).fails(6);
    assert!(ran.stderr.contains("cannot connect to localhost:1"), "{}", ran.stderr);
    assert_eq!(ran.stdout, "");
}

#[test]
fn errors_are_json_for_scripts() {
    let ran = run(&["-o", "json", "device", "list"]).fails(6);
    let error: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!(error["error"]["exitCode"], 6);
}

#[test]
fn keys_are_in_no_message() {
    let key = "c2VjcmV0c2VjcmV0c2VjcmV0";
    for text in [
        format!("HostName=localhost:1;SharedAccessKeyName=p;SharedAccessKey={key}"),
        format!("HostName=localhost;SharedAccessKey={key}"),
        format!("HostName=localhost;DeviceId=d;SharedAccessKey={key}"),
    ] {
        let ran = run(&["device", "list", "--no-retry", "--connection-string", &text]);
        assert!(!ran.stderr.contains(key) && !ran.stdout.contains(key), "{}", ran.stderr);
    }
}

#[test]
fn colors_are_for_terminals() {
    assert!(!run(&["device", "list"]).stderr.contains('\x1b'));
    assert!(run(&["--color", "always", "device", "list"]).stderr.contains("\x1b[31merror:"));
    assert!(!run(&["--color", "never", "device", "list"]).stderr.contains('\x1b'));
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let mut child =
        ostler(&["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let status = child.wait().unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(status.success() && stderr.is_empty(), "{status}: {stderr}");
}

#[test]
fn completions_are_shell_code() {
    let script = run(&["completions", "bash"]).ok().stdout;
    assert!(script.contains("connection-string"));
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut bash.stdin.take().unwrap(), script.as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success());
}

#[test]
fn the_doctor_works_without_a_hub() {
    let folder = tempfile::tempdir().unwrap();
    let ran = Ran::of(ostler(&["doctor", "-o", "json"]).current_dir(folder.path()).output().unwrap());
    let report = ran.json();
    let names: Vec<_> = report["checks"].as_array().unwrap().iter().map(|check| &check["name"]).collect();
    for name in ["files", "data", "hub", "mqtt-port", "https-port"] {
        assert!(names.iter().any(|seen| *seen == name), "{name}: {names:?}");
    }
    assert_eq!(ran.code == Some(0), report["ok"] == true);
}
