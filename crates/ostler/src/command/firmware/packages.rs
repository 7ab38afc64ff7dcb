//! `ostler firmware sign` and `verify`.
//!
//! Invariant: an image is read piece by piece; its size does not matter.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use jiff::Timestamp as Now;
use ostler_core::time::Timestamp;
use ostler_device_sdk::firmware::{self, Device, Digest, Downgrade, Hasher, Manifest, Package, Version};
use serde_json::{json, Value};

use super::keys;
use crate::exit::{Failure, Result};
use crate::input;
use crate::output::{Out, Tone};
use crate::when;

/// Read at once.
const PIECE: usize = 256 << 10;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The package is one line of JSON: the payload of the method `firmwareUpdate`, or the desired property `firmware`.
The manifest in it is what is signed; devices take nothing else on trust, so images and packages may be served by anyone.")]
pub struct SignArgs {
    /// The image
    file: PathBuf,
    /// The secret key that signs
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The image's version: numbers with dots, perhaps -rc.1 or +build behind
    #[arg(long, value_name = "VERSION")]
    version: Version,
    /// Hardware that it is for; may be repeated
    #[arg(long, value_name = "NAME", required = true)]
    hardware: Vec<String>,
    /// Oldest running version that can be updated to this one
    #[arg(long, value_name = "VERSION")]
    minimum_version: Option<Version>,
    /// From when on it must not be installed any more: +30d, or a date as 2027-01-31T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = when::start)]
    expires: Option<String>,
    /// Where devices find the image; by default beside the package, under its own name
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Write the package to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// The package; `-` is stdin
    package: PathBuf,
    /// The image
    file: Option<PathBuf>,
    /// Key that must have signed it, as text or file; may be repeated
    #[arg(long, value_name = "KEY", required = true)]
    public_key: Vec<String>,
    /// Check as well whether a device of this hardware would take it
    #[arg(long, value_name = "NAME", requires = "running")]
    hardware: Option<String>,
    /// The version that runs on that device
    #[arg(long, value_name = "VERSION", requires = "hardware")]
    running: Option<Version>,
}

pub fn sign(args: &SignArgs, out: &Out) -> Result {
    let key = keys::secret(&args.key)?;
    let (size, sha256) = measure(&args.file)?;
    let expires = match &args.expires {
        Some(text) => {
            Some(Timestamp::parse(text).ok_or_else(|| Failure::usage(format!("`{text}` is too far ahead")))?)
        }
        None => None,
    };
    let manifest = Manifest {
        version: args.version.clone(),
        hardware: args.hardware.clone(),
        minimum_version: args.minimum_version.clone(),
        expires,
        size,
        sha256,
    };
    // What a device would not read is better refused here.
    Manifest::parse(&manifest.to_text()).map_err(|failure| Failure::usage(failure.text))?;
    let name = args.file.file_name().and_then(|name| name.to_str());
    let url = match (&args.url, name) {
        (Some(url), _) => url.clone(),
        (None, Some(name)) => encoded(name),
        (None, None) => return Err(Failure::usage("name the image's address with --url")),
    };
    let package = firmware::sign(&manifest, url, &key);
    let text = package.to_json();
    match &args.to {
        Some(path) => {
            std::fs::write(path, format!("{text}\n")).map_err(|error| Failure::file(path, &error))?;
            let view = json!({ "package": path, "manifest": manifest_view(&manifest) });
            out.show(&view, |out| {
                out.line(format_args!("{} {}", out.paint(Tone::Good, "signed"), path.display()))
            })
        }
        None if out.is_json() => out.json(&package),
        None => out.line(text),
    }
}

pub fn verify(args: &VerifyArgs, out: &Out) -> Result {
    let refused = |failure: firmware::Failure| Failure::failed(failure.text);
    let package = Package::parse(&input::text(&args.package)?).map_err(refused)?;
    let keys: Vec<_> = args.public_key.iter().map(|key| keys::public(key)).collect::<Result<_>>()?;
    let manifest = firmware::verify(&package, &keys).map_err(refused)?;
    let now = Timestamp::from_unix_secs(Now::now().as_second());
    if let (Some(hardware), Some(version)) = (&args.hardware, &args.running) {
        let device = Device {
            hardware: hardware.clone(),
            version: version.clone(),
            downgrade: Downgrade::Refuse,
            max_size: u64::MAX,
        };
        manifest.admit(&device, now).map_err(refused)?;
    }
    if let Some(file) = &args.file {
        let (size, sha256) = measure(file)?;
        if (size, sha256) != (manifest.size, manifest.sha256) {
            return Err(Failure::failed(format!(
                "{} is not the image that was signed: it has {size} bytes with SHA-256 {sha256}, signed were {} with {}",
                file.display(),
                manifest.size,
                manifest.sha256
            )));
        }
    }
    if manifest.expires.is_some_and(|expires| expires <= now) {
        out.warn("it has expired: devices do not install it any more");
    }
    let mut view = manifest_view(&manifest);
    view["url"] = json!(package.url);
    view["imageChecked"] = json!(args.file.is_some());
    out.show(&view, |out| {
        out.line(out.paint(Tone::Good, "good"))?;
        let mut pairs = vec![
            ("version", manifest.version.to_string()),
            ("hardware", manifest.hardware.join(", ")),
            ("size", format!("{} bytes", manifest.size)),
            ("sha256", manifest.sha256.to_string()),
            ("url", package.url.clone()),
        ];
        pairs.extend(
            manifest.minimum_version.as_ref().map(|version| ("minimum version", version.to_string())),
        );
        pairs.extend(manifest.expires.map(|time| ("expires", time.to_string())));
        out.pairs(pairs)
    })
}

fn manifest_view(manifest: &Manifest) -> Value {
    json!({
        "version": manifest.version,
        "hardware": manifest.hardware,
        "minimumVersion": manifest.minimum_version,
        "expires": manifest.expires.map(|time| time.to_string()),
        "size": manifest.size,
        "sha256": manifest.sha256,
    })
}

/// A file's length and digest.
fn measure(path: &Path) -> Result<(u64, Digest)> {
    let failed = |error| Failure::file(path, &error);
    let mut file = File::open(path).map_err(failed)?;
    let (mut hasher, mut size, mut buffer) = (Hasher::new(), 0, vec![0; PIECE]);
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok((size, hasher.finish())),
            count => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
}

/// A file's name as a part of a URL.
fn encoded(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_a_part_of_a_url() {
        assert_eq!(encoded("pump-2.1_a~b.bin"), "pump-2.1_a~b.bin");
        assert_eq!(encoded("a b/é?#%"), "a%20b%2F%C3%A9%3F%23%25");
    }
}
