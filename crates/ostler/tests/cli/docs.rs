//! The examples of `docs/cli.md` are run, in order, against one hub: each line that starts with `$ `. A trailing
//! `# exits with N` says how it ends when that is not 0. Blocks marked `console skip` are not run.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{binary, Hub, Ran};

#[test]
fn the_examples_in_the_documentation_work() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let text = std::fs::read_to_string(path).unwrap();
    let examples = examples(&text);
    assert!(examples.len() > 20, "only {} examples found", examples.len());
    let hub = Hub::start();
    let bin = binary();
    let search = format!("{}:{}", bin.parent().unwrap().display(), std::env::var("PATH").unwrap());
    for (line, command, code) in examples {
        let output = Command::new("bash")
            .args(["-c", &command])
            .env("PATH", &search)
            .env("OSTLER_DATA", hub.data())
            .current_dir(hub.folder())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let ran = Ran::of(output);
        assert_eq!(ran.code, Some(code), "line {line}: {command}\n{}{}", ran.stdout, ran.stderr);
    }
}

/// Line number, command, expected exit code.
fn examples(text: &str) -> Vec<(usize, String, i32)> {
    let mut examples = Vec::new();
    let mut running = false;
    for (index, line) in text.lines().enumerate() {
        if let Some(language) = line.strip_prefix("```") {
            running = language == "console";
        } else if let (true, Some(command)) = (running, line.strip_prefix("$ ")) {
            let (command, code) = match command.rsplit_once("# exits with ") {
                Some((command, code)) => (command, code.trim().parse().unwrap()),
                None => (command, 0),
            };
            examples.push((index + 1, command.trim_end().to_owned(), code));
        }
    }
    examples
}
