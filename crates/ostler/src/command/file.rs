//! `ostler file`: files that devices uploaded.
//!
//! Invariant: what `get` leaves under the name it was told is a whole file; until then it has another name.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use jiff::Timestamp;
use ostler_service_sdk::{Client, DeviceId, Error, ErrorKind};
use serde_json::json;
use tokio::io::AsyncWrite;

use crate::exit::{Failure, Result};
use crate::hub::HubOptions;
use crate::output::{delete_each, printable, Out};
use crate::when;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    hub: HubOptions,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List files
    List(List),
    /// Fetch a file
    Get(Get),
    /// Delete files
    Delete(Delete),
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only of this device
    #[arg(value_name = "DEVICE", value_parser = device_id)]
    device: Option<DeviceId>,
}

#[derive(Debug, clap::Args)]
struct Get {
    /// As `list` shows it
    #[arg(value_name = "DEVICE/NAME", value_parser = file_name)]
    file: FileName,
    /// Where to write it, `-` for standard output; without it the last part of the name, in this folder
    #[arg(long, short = 'f', value_name = "FILE")]
    to: Option<PathBuf>,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

#[derive(Debug, clap::Args)]
struct Delete {
    /// As `list` shows them
    #[arg(value_name = "DEVICE/NAME", required = true, value_parser = file_name)]
    files: Vec<FileName>,
}

#[derive(Debug, Clone)]
struct FileName {
    device: DeviceId,
    name: String,
}

impl std::fmt::Display for FileName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.device, self.name)
    }
}

fn device_id(text: &str) -> std::result::Result<DeviceId, String> {
    text.parse().map_err(|error| format!("{error}"))
}

fn file_name(text: &str) -> std::result::Result<FileName, String> {
    let (device, name) =
        text.split_once('/').ok_or("expected DEVICE/NAME, as `ostler file list` shows it")?;
    if name.is_empty() {
        return Err("the name of the file is missing after the /".to_owned());
    }
    Ok(FileName { device: device_id(device)?, name: name.to_owned() })
}

pub async fn run(args: Args, out: &Out) -> Result {
    let hub = args.hub.client()?;
    match args.action {
        Action::List(args) => list(&hub, args.device.as_ref(), out).await,
        Action::Get(args) => get(&hub, args, out).await,
        Action::Delete(args) => {
            delete_each(&args.files, out, async |file: &FileName| {
                hub.files().delete(&file.device, &file.name).await
            })
            .await
        }
    }
}

async fn list(hub: &Client, device: Option<&DeviceId>, out: &Out) -> Result {
    let files = hub.files().list(device).into_vec().await?;
    out.show(&files, |out| {
        let rows = files.iter().map(|file| {
            let name = printable(&format!("{}/{}", file.device_id, file.name));
            let modified = when::ago(&file.last_modified, Timestamp::now());
            vec![(name, None), (file.size.to_string(), None), (modified, None)]
        });
        out.table(&["FILE", "BYTES", "STORED"], rows)
    })
}

/// A file that is not there has the error code of a route that is not there, whose advice would mislead.
fn missing(error: Error, file: &FileName) -> Failure {
    let away = error.kind() == ErrorKind::NotFound
        && error.fault().is_some_and(|fault| fault.message.contains(&file.to_string()));
    match Failure::from(error) {
        Failure::Told { exit, message, code, .. } if away => {
            let advice = Some(format!("`ostler file list {}` shows what there is", file.device));
            Failure::Told { exit, message, advice, code }
        }
        failure => failure,
    }
}

async fn get(hub: &Client, args: Get, out: &Out) -> Result {
    if args.to.as_deref() == Some(Path::new("-")) {
        let mut stdout = Blocking(std::io::stdout());
        let read = hub.files().get(&args.file.device, &args.file.name, &mut stdout).await;
        return read.map(|_| ()).map_err(|error| missing(error, &args.file));
    }
    let last = args.file.name.rsplit('/').next().unwrap_or_default();
    let path = args.to.unwrap_or_else(|| PathBuf::from(last));
    if path.exists() && !args.force {
        let text = format!("{} is there already; --force replaces it", path.display());
        return Err(Failure::usage(text));
    }
    let failed = |error: std::io::Error| Failure::failed(format!("cannot write {}: {error}", path.display()));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let mut writer = Blocking(temporary.reopen().map_err(failed)?);
    let read = hub.files().get(&args.file.device, &args.file.name, &mut writer).await;
    let bytes = read.map_err(|error| missing(error, &args.file))?;
    temporary.persist(&path).map_err(|error| failed(error.error))?;
    let shown = path.display().to_string();
    out.show(&json!({ "file": args.file.to_string(), "path": shown, "size": bytes }), |out| {
        out.note(format_args!("{bytes} bytes in {}", printable(&shown)));
        Ok(())
    })
}

/// A writer that waits: nothing else runs beside it in a command.
struct Blocking<W>(W);

impl<W: std::io::Write + Unpin> AsyncWrite for Blocking<W> {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::task::Poll::Ready(self.0.write(bytes))
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(self.0.flush())
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        self.poll_flush(cx)
    }
}
