//! `ostler device export` and `import`, and the bulk writing that `create` shares with them.
//!
//! Invariant: a file is read line by line, so its size is no limit; CSV alone is read whole.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use futures_util::TryStreamExt;
use ostler_service_sdk::{BulkEntry, BulkOptions, Client, Device, DeviceId, Error, ImportMode, TwinSections};
use serde_json::json;

use super::csv;
use crate::exit::{Failure, Result};
use crate::input;
use crate::output::{some_failed, Out};

/// Failed entries that are shown one by one; the rest is counted.
const SHOWN_ERRORS: usize = 20;
/// Twins read at once for an export.
const EXPORT_CONCURRENCY: usize = 16;
/// Longest line of an import file.
const MAX_LINE: u64 = 1 << 20;

const MODES: [&str; 9] = [
    "createOrUpdate",
    "create",
    "update",
    "updateIfMatchETag",
    "createOrUpdateIfMatchETag",
    "delete",
    "deleteIfMatchETag",
    "updateTwin",
    "updateTwinIfMatchETag",
];

#[derive(Debug, clap::Args)]
pub struct Export {
    /// Where to write; stdout if not given
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Leave the keys out; imported again, the devices get new ones
    #[arg(long)]
    no_keys: bool,
    /// Leave tags and desired properties out, which saves reading each twin
    #[arg(long)]
    no_twins: bool,
}

#[derive(Debug, clap::Args)]
pub struct Import {
    /// JSON lines, or CSV if it is named so; `-` is stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What to do with each device that does not say so itself
    #[arg(long, value_name = "MODE", default_value = "createOrUpdate", ignore_case = true,
          value_parser = PossibleValuesParser::new(MODES).map(|mode| ImportMode::from(mode.as_str())))]
    mode: ImportMode,
}

pub async fn export(hub: &Client, args: Export, out: &Out) -> Result {
    let total = hub.device_statistics().await?.total_device_count;
    let mut sink: Box<dyn Write> = match &args.file {
        Some(path) => {
            Box::new(BufWriter::new(private_file(path).map_err(|error| Failure::file(path, &error))?))
        }
        None => Box::new(io::stdout().lock()),
    };
    let bar = out.progress(Some(total), "exporting");
    let entries =
        hub.all_devices().map_ok(|device| export_entry(hub, device, &args)).try_buffered(EXPORT_CONCURRENCY);
    futures_util::pin_mut!(entries);
    let mut written = 0u64;
    while let Some(entry) = entries.try_next().await? {
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        sink.write_all(&line)?;
        written += 1;
        bar.inc(1);
    }
    sink.flush()?;
    bar.finish_and_clear();
    if let Some(path) = &args.file {
        out.note(format_args!("exported {written} devices to {}", path.display()));
    }
    Ok(())
}

/// Keys are in it: nobody else on the machine may read it.
fn private_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().write(true).create(true).truncate(true).mode(0o600).open(path)
}

async fn export_entry(hub: &Client, device: Device, args: &Export) -> std::result::Result<BulkEntry, Error> {
    let id = device.device_id.clone();
    let mut entry = BulkEntry::from(device);
    if args.no_keys {
        if let Some(keys) = entry.authentication.as_mut().and_then(|auth| auth.symmetric_key.as_mut()) {
            (keys.primary_key, keys.secondary_key) = (None, None);
        }
    }
    if !args.no_twins {
        let id = DeviceId::new(&id).map_err(|error| Error::Setup(format!("device `{id}`: {error}")))?;
        let twin = hub.twin(&id.into()).await?;
        entry.tags = twin.tags.filter(|tags| !tags.is_empty());
        let mut desired = twin.properties.desired;
        desired.retain(|key, _| !key.starts_with('$'));
        if !desired.is_empty() {
            entry.properties = Some(TwinSections { desired: Some(desired), reported: None });
        }
    }
    Ok(entry)
}

pub async fn import(hub: &Client, args: Import, out: &Out) -> Result {
    let verb = match args.mode {
        ImportMode::Delete | ImportMode::DeleteIfMatchEtag => "deleted",
        _ => "imported",
    };
    let entries = read_entries(&args.file, &args.mode)?;
    send(hub, entries, Writing { total: None, verb }, out).await
}

/// Entries of a file, each with `mode` unless it names its own.
pub fn read_entries(
    path: &Path,
    mode: &ImportMode,
) -> Result<Box<dyn Iterator<Item = std::result::Result<BulkEntry, Failure>>>> {
    let shown = path.display().to_string();
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv")) {
        let entries = csv::parse(&input::text(path)?, mode)
            .map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
        return Ok(Box::new(entries.into_iter().map(Ok)));
    }
    let reader: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(path).map_err(|error| Failure::file(path, &error))?))
    };
    Ok(Box::new(Lines { reader, number: 0, shown, mode: mode.clone() }))
}

struct Lines {
    reader: Box<dyn BufRead>,
    number: u64,
    shown: String,
    mode: ImportMode,
}

impl Iterator for Lines {
    type Item = std::result::Result<BulkEntry, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut line = Vec::new();
            self.number += 1;
            match io::Read::take(&mut self.reader, MAX_LINE).read_until(b'\n', &mut line) {
                Ok(0) => return None,
                Ok(_) if line.trim_ascii().is_empty() => {}
                Ok(_) => return Some(self.parse(&line)),
                Err(error) => return Some(Err(Failure::file(Path::new(&self.shown), &error))),
            }
        }
    }
}

impl Lines {
    fn parse(&self, line: &[u8]) -> std::result::Result<BulkEntry, Failure> {
        let wrong = |reason: String| Failure::usage(format!("{} line {}: {reason}", self.shown, self.number));
        let mut entry: BulkEntry = serde_json::from_slice(line).map_err(|error| wrong(error.to_string()))?;
        if entry.id.is_empty() {
            // A line may also be an identity as `device show` prints it.
            let device: Device =
                serde_json::from_slice(line).map_err(|_| wrong("neither `id` nor `deviceId`".to_owned()))?;
            entry = BulkEntry::from(device);
        }
        entry.import_mode.get_or_insert_with(|| self.mode.clone());
        Ok(entry)
    }
}

/// What is being written, for the bar and the last line.
pub struct Writing {
    pub total: Option<u64>,
    pub verb: &'static str,
}

/// Writes entries in bulk, with a bar, and reports what failed. A line that does not parse ends the reading; what was
/// read before it is still written.
pub async fn send(
    hub: &Client,
    entries: impl IntoIterator<Item = std::result::Result<BulkEntry, Failure>>,
    writing: Writing,
    out: &Out,
) -> Result {
    let bar = out.progress(writing.total, writing.verb);
    let started = Instant::now();
    let mut unread = None;
    let readable =
        entries.into_iter().map_while(|entry| entry.map_err(|failure| unread = Some(failure)).ok());
    let mut errors = Vec::new();
    let result = hub
        .bulk_all(readable, BulkOptions::default(), |chunk| {
            bar.inc(chunk.entries as u64);
            for warning in &chunk.warnings {
                out.warn(format_args!("{}: {}", warning.device_id, warning.warning_code));
            }
            let room = SHOWN_ERRORS.saturating_sub(errors.len());
            errors.extend(chunk.errors.iter().take(room).cloned());
        })
        .await;
    bar.finish_and_clear();
    let summary = result?;
    let secs = started.elapsed().as_secs_f64();
    let done = summary.entries - summary.failed;
    let document = json!({
        "entries": summary.entries, "succeeded": done, "failed": summary.failed, "errors": errors,
        "seconds": secs,
    });
    out.show(&document, |out| {
        let rate =
            if done > 100 { format!(" in {secs:.1} s ({:.0}/s)", done as f64 / secs) } else { String::new() };
        let noun = if done == 1 { "device" } else { "devices" };
        out.line(format_args!("{} {done} {noun}{rate}", writing.verb))
    })?;
    if !out.is_json() {
        for error in &errors {
            let text = error.error_status.as_deref().unwrap_or_default();
            out.warn(format_args!("{}: {} {text}", error.device_id, error.error_code));
        }
        let hidden = summary.failed.saturating_sub(errors.len() as u64);
        if hidden > 0 {
            out.warn(format_args!("{hidden} more failed"));
        }
    }
    match unread {
        Some(failure) => Err(failure),
        None => some_failed(summary.failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<std::result::Result<String, String>> {
        let reader = Box::new(io::Cursor::new(text.to_owned()));
        Lines { reader, number: 0, shown: "f".to_owned(), mode: ImportMode::Create }
            .map(|entry| match entry {
                Ok(entry) => Ok(serde_json::to_string(&entry).unwrap()),
                Err(Failure::Told { message, .. }) => Err(message),
                Err(other) => Err(format!("{other:?}")),
            })
            .collect()
    }

    #[test]
    fn a_line_is_an_entry_or_an_identity() {
        assert_eq!(
            lines("{\"id\":\"a\",\"importMode\":\"Delete\"}\n\n{\"deviceId\":\"b\",\"status\":\"disabled\"}"),
            [
                Ok(r#"{"id":"a","importMode":"delete"}"#.to_owned()),
                Ok(r#"{"id":"b","importMode":"create","status":"disabled"}"#.to_owned())
            ]
        );
    }

    #[test]
    fn a_wrong_line_is_named() {
        assert!(lines("{\"id\":\"a\"}\n{").pop().unwrap().unwrap_err().starts_with("f line 2: "));
        assert!(lines("{}")[0].as_ref().unwrap_err().contains("neither `id` nor `deviceId`"));
    }

    #[test]
    fn every_mode_can_be_named() {
        for mode in MODES {
            assert!(!matches!(ImportMode::from(mode), ImportMode::Other(_)), "{mode}");
        }
    }
}
