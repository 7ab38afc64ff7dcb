//! The whole of an update under test: on disks that lose power, against servers that misbehave, in processes that are killed.

mod bad_input;
mod disk;
mod life;
mod power;
mod process;
mod report;
mod server;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ostler_core::time::Timestamp;

use super::files::Files;
use super::{
    sign, Builder, Digest, Failure, Manifest, Package, Progress, PublicKey, Request, SigningKey, Source,
    Store, Tuning, Updater,
};
use crate::http::Https;
use crate::Client;

pub const HARDWARE: &str = "pump-a1";

/// HTTP as a device has it. No hub is there, and none is needed.
pub fn https() -> Https {
    let text = "HostName=127.0.0.1;DeviceId=pump-7;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==";
    Client::builder(text.parse().unwrap()).build().unwrap().https()
}

/// An image nobody can compress or guess.
pub fn image(seed: u8, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 32);
    let mut block = *Digest::of(&[seed]).as_bytes();
    while bytes.len() < size {
        bytes.extend_from_slice(&block);
        block = *Digest::of(&block).as_bytes();
    }
    bytes.truncate(size);
    bytes
}

pub fn manifest(version: &str, image: &[u8]) -> Manifest {
    Manifest {
        version: version.parse().unwrap(),
        hardware: vec![HARDWARE.to_owned()],
        minimum_version: None,
        expires: Timestamp::parse("2999-01-01T00:00:00Z"),
        size: image.len() as u64,
        sha256: Digest::of(image),
    }
}

/// The same key in every process of a test.
pub fn key() -> SigningKey {
    SigningKey::from_pem(
        "-----BEGIN PRIVATE KEY-----\n\
         MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
         -----END PRIVATE KEY-----\n",
    )
    .unwrap()
}

pub fn package(version: &str, image: &[u8], url: &str) -> Package {
    sign(&manifest(version, image), url, &key())
}

/// Short waits and small chunks; everything else as it is by default.
pub fn tuning(chunk: u64) -> Tuning {
    Tuning {
        chunk,
        first_wait: Duration::from_millis(1),
        max_wait: Duration::from_millis(4),
        attempts: 6,
        silence: Duration::from_secs(20),
        ..Tuning::default()
    }
}

pub fn builder(folder: &Path, chunk: u64) -> Builder {
    let trusted: PublicKey = key().public();
    Updater::builder(folder, HARDWARE, "1.0.0".parse().unwrap()).trust(trusted).tuning(tuning(chunk))
}

/// A store on a file system of a test.
pub fn store(folder: &Path, files: Arc<dyn Files>) -> Result<Store, Failure> {
    Store::with(folder.to_owned(), files, None)
}

/// Asks for a package and waits until the update has ended or wants to boot.
pub async fn run(updater: &Updater, request: Request) -> Progress {
    let mut changes = updater.changes();
    let before = updater.progress().state.last;
    if updater.request(request, Source::Call).await.is_err() {
        return updater.progress();
    }
    let https = https();
    tokio::select! {
        result = updater.drive(&https) => drop(result.unwrap()),
        _ = changes.wait_for(|progress| progress.state.update.is_none() && progress.state.last != before) => {}
    }
    updater.progress()
}
