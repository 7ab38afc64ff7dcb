//! What an update is: a manifest, signed as the exact bytes of its text, and the package that carries it.
//!
//! ```text
//! package   {"url": "https://…/pump-2.1.bin", "manifest": "<text>", "signature": "<base64 of 64 bytes>"}
//! manifest  {"format":1,"version":"2.1.0","hardware":["pump-a1"],"minimumVersion":"1.4","expires":"2027-01-01T00:00:00Z",
//!            "size":1048576,"sha256":"<64 hex digits>"}
//! ```
//!
//! Must not know: files, sockets, clocks: `now` is an argument.
//!
//! Invariant: nothing of a manifest is looked at before a trusted key has been found to have signed its text.
//! Invariant: the URL is not signed and needs no trust; size and SHA-256 are, and decide.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use ostler_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::failure::{Code, Failure};
use super::key::{PublicKey, SigningKey};
use super::version::Version;

/// Longest text of a package in bytes. A value in a twin is shorter still (device §5).
pub const MAX_PACKAGE: usize = 16 << 10;
/// Longest URL in bytes.
pub const MAX_URL: usize = 2048;
const MAX_HARDWARE_NAMES: usize = 16;
const MAX_HARDWARE_NAME: usize = 64;
/// The form of manifests that this crate understands.
const FORMAT: u32 = 1;

/// What was signed: which image this is, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The image's version.
    pub version: Version,
    /// The hardware it runs on: one of these names must be the device's.
    pub hardware: Vec<String>,
    /// The oldest running version that can be updated to this one directly.
    pub minimum_version: Option<Version>,
    /// From when on it must not be installed any more.
    pub expires: Option<Timestamp>,
    /// The image's length in bytes.
    pub size: u64,
    /// The image's SHA-256.
    pub sha256: Digest,
}

/// The JSON of a manifest. Members that are not known are ignored; one that must be understood comes with a new `format`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Text {
    format: u32,
    version: Version,
    hardware: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    minimum_version: Option<Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    size: u64,
    sha256: Digest,
}

impl Manifest {
    /// Reads the text of a manifest whose signature was found good.
    ///
    /// # Errors
    /// [`Code::BadPackage`] with what is wrong.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let bad = |why: String| Failure::new(Code::BadPackage, format!("the manifest cannot be used: {why}"));
        if text.len() > MAX_PACKAGE {
            return Err(bad(format!("it is longer than {MAX_PACKAGE} bytes")));
        }
        let text: Text = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
        if text.format != FORMAT {
            return Err(bad(format!("its format is {}, this device knows {FORMAT}", text.format)));
        }
        let name_fits = |name: &String| !name.is_empty() && name.len() <= MAX_HARDWARE_NAME;
        if text.hardware.is_empty()
            || text.hardware.len() > MAX_HARDWARE_NAMES
            || !text.hardware.iter().all(name_fits)
        {
            return Err(bad("`hardware` must hold 1 to 16 names of 1 to 64 bytes".to_owned()));
        }
        if text.size == 0 {
            return Err(bad("`size` is 0".to_owned()));
        }
        let expires = match text.expires {
            Some(text) => Some(Timestamp::parse(&text).ok_or_else(|| {
                bad("`expires` must be a UTC time such as 2027-01-01T00:00:00Z".to_owned())
            })?),
            None => None,
        };
        let Text { version, hardware, minimum_version, size, sha256, .. } = text;
        Ok(Self { version, hardware, minimum_version, expires, size, sha256 })
    }

    /// The text to sign: compact JSON.
    pub fn to_text(&self) -> String {
        let text = Text {
            format: FORMAT,
            version: self.version.clone(),
            hardware: self.hardware.clone(),
            minimum_version: self.minimum_version.clone(),
            expires: self.expires.map(|time| time.to_string()),
            size: self.size,
            sha256: self.sha256,
        };
        serde_json::to_string(&text).expect("texts, numbers and lists of texts are always JSON")
    }

    /// Whether a device may install this.
    ///
    /// # Errors
    /// [`Code::WrongHardware`], [`Code::Expired`], [`Code::NotNewer`], [`Code::VersionTooOld`], [`Code::TooLarge`].
    pub fn admit(&self, device: &Device, now: Timestamp) -> Result<(), Failure> {
        let refuse = |code, text: String| Err(Failure::new(code, text));
        let Device { hardware, version: running, downgrade, max_size } = device;
        if !self.hardware.iter().any(|name| name == hardware) {
            let names = self.hardware.join(", ");
            return refuse(
                Code::WrongHardware,
                format!("the image is for {names}, this device is {hardware}"),
            );
        }
        if self.expires.is_some_and(|expires| expires <= now) {
            return refuse(
                Code::Expired,
                "the manifest has expired: sign it again with a later time".to_owned(),
            );
        }
        if self.version <= *running && *downgrade == Downgrade::Refuse {
            let text = format!("version {} is not newer than {running}, which runs", self.version);
            return refuse(Code::NotNewer, text);
        }
        if let Some(minimum) = self.minimum_version.as_ref().filter(|minimum| *minimum > running) {
            let text = format!(
                "version {} needs at least {minimum} to start from, but {running} runs",
                self.version
            );
            return refuse(Code::VersionTooOld, text);
        }
        if self.size > *max_size {
            let text = format!("the image has {} bytes, this device takes at most {max_size}", self.size);
            return refuse(Code::TooLarge, text);
        }
        Ok(())
    }
}

/// What a manifest is held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The device's hardware name.
    pub hardware: String,
    /// The version that runs.
    pub version: Version,
    /// Whether an older version, or the same again, may be installed.
    pub downgrade: Downgrade,
    /// Largest image that is taken, in bytes.
    pub max_size: u64,
}

/// Whether an older version, or the same again, may be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Downgrade {
    /// It is refused.
    #[default]
    Refuse,
    /// It is allowed, as for devices on a developer's desk.
    Allow,
}

/// A signed manifest, and where the image is to be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Where the image is: an HTTP(S) URL, or a reference relative to the package's own URL where it came from one.
    pub url: String,
    /// The text that was signed.
    pub manifest: String,
    /// Ed25519 over the bytes of `manifest`, base64.
    pub signature: String,
}

impl Package {
    /// Reads the JSON of a package. Members that are not known are ignored.
    ///
    /// # Errors
    /// [`Code::BadPackage`] with what is wrong.
    ///
    /// ```
    /// use ostler_device_sdk::firmware::Package;
    ///
    /// let text = r#"{"url":"https://files.example.net/x","manifest":"{}","signature":"AAAA"}"#;
    /// assert_eq!(Package::parse(text)?.to_json(), text);
    /// # Ok::<(), ostler_device_sdk::firmware::Failure>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let bad = |why: String| Failure::new(Code::BadPackage, format!("the package cannot be used: {why}"));
        if text.len() > MAX_PACKAGE {
            return Err(bad(format!("it is longer than {MAX_PACKAGE} bytes")));
        }
        let package: Self = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
        if package.url.is_empty() || package.url.len() > MAX_URL {
            return Err(bad(format!("`url` must have 1 to {MAX_URL} bytes")));
        }
        Ok(package)
    }

    /// The JSON of the package, on one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("an object of texts is always JSON")
    }
}

/// Signs a manifest and packs it up.
///
/// ```
/// use ostler_device_sdk::firmware::{sign, verify, Digest, Manifest, SigningKey};
///
/// let image = b"the image";
/// let manifest = Manifest {
///     version: "2.1.0".parse()?,
///     hardware: vec!["pump-a1".to_owned()],
///     minimum_version: None,
///     expires: None,
///     size: image.len() as u64,
///     sha256: Digest::of(image),
/// };
/// let key = SigningKey::generate()?;
/// let package = sign(&manifest, "https://files.example.net/pump-2.1.bin", &key);
/// assert_eq!(verify(&package, &[key.public()])?, manifest);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn sign(manifest: &Manifest, url: impl Into<String>, key: &SigningKey) -> Package {
    let manifest = manifest.to_text();
    let signature = STANDARD.encode(key.sign(manifest.as_bytes()));
    Package { url: url.into(), manifest, signature }
}

/// Checks who signed a package, and reads its manifest.
///
/// Several keys may be trusted at once, so that a new one can be rolled out before the old one is retired.
///
/// # Errors
/// [`Code::BadSignature`] when none of the keys signed it, [`Code::BadPackage`] when the manifest cannot be read.
///
/// ```
/// use ostler_device_sdk::firmware::{verify, Code, Package, SigningKey};
///
/// let text = r#"{"url":"https://files.example.net/x","manifest":"{}","signature":"AAAA"}"#;
/// let refused = verify(&Package::parse(text)?, &[SigningKey::generate()?.public()]).unwrap_err();
/// assert_eq!(refused.code, Code::BadSignature);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn verify(package: &Package, trusted: &[PublicKey]) -> Result<Manifest, Failure> {
    let signature = STANDARD
        .decode(package.signature.trim())
        .map_err(|_| Failure::new(Code::BadSignature, "the package's signature is not base64"))?;
    if !trusted.iter().any(|key| key.verifies(package.manifest.as_bytes(), &signature)) {
        let text = match trusted.len() {
            0 => "no key is trusted, so nothing can be installed".to_owned(),
            1 => "the manifest was not signed by the trusted key".to_owned(),
            count => format!("the manifest was signed by none of the {count} trusted keys"),
        };
        return Err(Failure::new(Code::BadSignature, text));
    }
    Manifest::parse(&package.manifest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn manifest() -> Manifest {
        Manifest {
            version: "2.1.0".parse().unwrap(),
            hardware: vec!["pump-a1".to_owned(), "pump-a2".to_owned()],
            minimum_version: Some("1.4".parse().unwrap()),
            expires: Timestamp::parse("2027-01-01T00:00:00Z"),
            size: 1000,
            sha256: Digest::of(b"image"),
        }
    }

    fn device(version: &str) -> Device {
        Device {
            hardware: "pump-a1".to_owned(),
            version: version.parse().unwrap(),
            downgrade: Downgrade::Refuse,
            max_size: 4096,
        }
    }

    fn code<T: std::fmt::Debug>(result: Result<T, Failure>) -> Code {
        result.unwrap_err().code
    }

    #[test]
    fn a_manifest_comes_back_as_it_was_written() {
        let text = manifest().to_text();
        assert_eq!(Manifest::parse(&text).unwrap(), manifest());
        assert!(
            text.starts_with(r#"{"format":1,"version":"2.1.0","hardware":["pump-a1","pump-a2"],"#),
            "{text}"
        );
    }

    #[test]
    fn what_a_device_may_install() {
        let now = Timestamp::parse("2026-12-31T23:59:59Z").unwrap();
        manifest().admit(&device("1.4"), now).unwrap();
        let wrong = Device { hardware: "pump-b1".to_owned(), ..device("2.0") };
        assert_eq!(code(manifest().admit(&wrong, now)), Code::WrongHardware);
        assert_eq!(code(manifest().admit(&device("2.0"), now.plus_secs(1))), Code::Expired);
        assert_eq!(code(manifest().admit(&device("2.1"), now)), Code::NotNewer);
        assert_eq!(code(manifest().admit(&device("3"), now)), Code::NotNewer);
        assert_eq!(code(manifest().admit(&device("1.3.9"), now)), Code::VersionTooOld);
        assert_eq!(code(manifest().admit(&Device { max_size: 999, ..device("2.0") }, now)), Code::TooLarge);
        manifest().admit(&Device { downgrade: Downgrade::Allow, ..device("3") }, now).unwrap();
    }

    #[test]
    fn one_of_the_trusted_keys_must_have_signed() {
        let (old, new) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let package = sign(&manifest(), "https://fw.example/x", &new);
        let read = Package::parse(&package.to_json()).unwrap();
        assert_eq!(verify(&read, &[old.public(), new.public()]).unwrap(), manifest());
        assert_eq!(code(verify(&read, &[old.public()])), Code::BadSignature);
        assert_eq!(code(verify(&read, &[])), Code::BadSignature);
        let moved = Package { url: "https://elsewhere.example/y".to_owned(), ..read.clone() };
        verify(&moved, &[new.public()]).unwrap();
        let spaced = Package { manifest: format!("{} ", read.manifest), ..read.clone() };
        assert_eq!(code(verify(&spaced, &[new.public()])), Code::BadSignature);
        for signature in ["", "x", "AAAA", &package.signature[4..]] {
            let wrong = Package { signature: signature.to_owned(), ..read.clone() };
            assert_eq!(code(verify(&wrong, &[new.public()])), Code::BadSignature, "{signature}");
        }
    }

    #[test]
    fn manifests_that_cannot_be_used_say_why() {
        let good = manifest().to_text();
        for (from, to, word) in [
            (r#""format":1"#, r#""format":2"#, "format"),
            (r#""version":"2.1.0""#, r#""version":"two""#, "version"),
            (r#"["pump-a1","pump-a2"]"#, "[]", "hardware"),
            (r#"["pump-a1","pump-a2"]"#, r#"[""]"#, "hardware"),
            (r#""size":1000"#, r#""size":0"#, "size"),
            (r#""size":1000"#, r#""size":-1"#, "-1"),
            (r#""size":1000"#, r#""size":1000,"size":1001"#, "duplicate"),
            ("2027-01-01T00:00:00", "soon", "expires"),
            (r#""sha256":""#, r#""sha256":"0"#, "sha256"),
        ] {
            let text = good.replacen(from, to, 1);
            assert_ne!(text, good);
            let failure = Manifest::parse(&text).unwrap_err();
            assert!(failure.code == Code::BadPackage && failure.text.contains(word), "{to}: {failure}");
        }
        assert!(Manifest::parse(&good.replacen("{", r#"{"notes":"x","#, 1)).is_ok());
        assert_eq!(code(Package::parse(&format!("{{{}", " ".repeat(MAX_PACKAGE)))), Code::BadPackage);
        assert_eq!(code(Package::parse(r#"{"url":"","manifest":"","signature":""}"#)), Code::BadPackage);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let _ = Manifest::parse(&text);
            let _ = Package::parse(&text);
        }

        #[test]
        fn one_changed_byte_is_noticed(at in any::<prop::sample::Index>(), flip in 1u8..128) {
            let key = SigningKey::generate().unwrap();
            let package = sign(&manifest(), "u", &key);
            let mut bytes = package.manifest.clone().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let Ok(manifest) = String::from_utf8(bytes) else { return Ok(()) };
            let changed = Package { manifest, ..package };
            prop_assert_eq!(code(verify(&changed, &[key.public()])), Code::BadSignature);
        }
    }
}
