//! Firmware updates that survive power cuts: signed manifests, two slots, confirmation by a health check, rollback.
//!
//! A *package* says where an image is and carries a signed [`Manifest`]. The image is downloaded to the slot that does not
//! run, held against its signed digest, switched to atomically, booted, and kept only when it confirms within a
//! number of boots; otherwise the device goes back to the slot it came from.
//!
//! ```no_run
//! use ostler_device_sdk::firmware::{Exit, Updater};
//!
//! # async fn example(client: ostler_device_sdk::Client) -> Result<(), Box<dyn std::error::Error>> {
//! let updater = Updater::builder("/var/lib/pump/firmware", "pump-a1", "1.0.0".parse()?)
//!     .trust(std::fs::read_to_string("/etc/pump/firmware.pub")?.parse()?)
//!     .open()?;
//! // Runs beside whatever else the device does; calls and desired properties begin updates.
//! if let Exit::Boot(slot) = updater.run(&client).await? {
//!     client.close(std::time::Duration::from_secs(5)).await;
//!     println!("start {} now", slot.folder.display());
//! }
//! # Ok(()) }
//! ```
//!
//! Must not know: how an image is unpacked or booted: that is the application's, through hooks.
//!
//! Invariant: at any moment, a power cut included, the slot that boots holds a whole image.

mod attach;
mod digest;
mod download;
mod failure;
mod files;
mod hooks;
mod key;
mod machine;
mod manifest;
mod report;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod updater;
mod url;
mod version;

pub use digest::{Digest, Hasher};
pub use download::{PlainHttp, Tuning, MAX_REDIRECTS};
pub use failure::{Code, Failure};
pub use hooks::{Install, Reboot, Trial};
pub use key::{BadKey, PublicKey, SigningKey};
pub use machine::{Accepted, Action, Boot, Machine, Rules, MAX_CHANGES};
pub use manifest::{sign, verify, Device, Downgrade, Manifest, Package, MAX_PACKAGE, MAX_URL};
pub use ostler_core::time::Timestamp;
pub use report::{Patch, Reporter, MAX_WAITING};
pub use state::{Ending, Image, Outcome, Phase, Request, Slot, Source, State, Step, Target, Update};
pub use store::Store;
pub use updater::{launch, Builder, Exit, Progress, Updater};
pub use version::{BadVersion, Version, MAX_VERSION};
