//! `ostler firmware keygen`.
//!
//! Invariant: a key is never overwritten, and the secret one is readable by its owner alone from its first byte.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ostler_device_sdk::firmware::{PublicKey, SigningKey};
use serde_json::json;

use crate::exit::{Exit, Failure, Result};
use crate::input;
use crate::output::Out;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
NAME.key is secret: who has it decides what devices run. Keep it off the machines that serve images.")]
pub struct Args {
    /// Writes NAME.key (secret) and NAME.pub, both PEM
    name: PathBuf,
}

pub fn run(args: &Args, out: &Out) -> Result {
    let with = |ending: &str| {
        let mut name = args.name.clone().into_os_string();
        name.push(ending);
        PathBuf::from(name)
    };
    let (secret_file, public_file) = (with(".key"), with(".pub"));
    let key = SigningKey::generate().map_err(|error| Failure::failed(error.to_string()))?;
    write_new(&secret_file, key.to_pem().as_bytes(), 0o600)?;
    if let Err(failure) = write_new(&public_file, key.public().to_pem().as_bytes(), 0o644) {
        // A pair of which one half is missing helps nobody.
        let _ = std::fs::remove_file(&secret_file);
        return Err(failure);
    }
    let view = json!({
        "secretKeyFile": secret_file, "publicKeyFile": public_file, "publicKey": key.public().to_base64(),
    });
    out.show(&view, |out| {
        out.pairs([
            ("secret key", secret_file.display().to_string()),
            ("public key", public_file.display().to_string()),
            ("for devices", key.public().to_base64()),
        ])
    })
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = file.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::new(Exit::Conflict, format!("{}: is there already", path.display()))
                .advise("A key is never overwritten; choose another name")
        }
        _ => Failure::file(path, &error),
    })?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| Failure::file(path, &error))
}

/// A public key by its text or its file.
pub fn public(text: &str) -> Result<PublicKey> {
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    let path = Path::new(text);
    let file = input::text(path)?;
    file.parse().map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
}

/// A secret key from its file.
pub fn secret(path: &Path) -> Result<SigningKey> {
    SigningKey::from_pem(&input::text(path)?)
        .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
}
