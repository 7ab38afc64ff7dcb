//! `ostler firmware`: keys, signed packages, and a server for images: the other side of the device SDK's updates.
//!
//! Must not know: hubs. A package goes to devices through `ostler method invoke`, `ostler twin set` or a job.

mod files;
mod keys;
mod packages;
mod serve;

use clap::Subcommand;

use crate::exit::Result;
use crate::output::Out;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ostler firmware keygen release
  ostler firmware sign pump-2.1.bin --key release.key --version 2.1.0 --hardware pump-a1 --to pump-2.1.json
  ostler firmware verify pump-2.1.json pump-2.1.bin --public-key release.pub
  ostler firmware serve .
  ostler method invoke pump-7 firmwareUpdate '{\"fwPackageUri\":\"http://127.0.0.1:8070/pump-2.1.json\"}'")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key pair that signs firmware
    Keygen(keys::Args),
    /// Sign an image and print its package
    Sign(packages::SignArgs),
    /// Check a package, and the image it is for
    Verify(packages::VerifyArgs),
    /// Serve a folder of images and packages to devices
    Serve(serve::Args),
}

pub async fn run(args: Args, out: &Out) -> Result {
    match args.action {
        Action::Keygen(args) => keys::run(&args, out),
        Action::Sign(args) => packages::sign(&args, out),
        Action::Verify(args) => packages::verify(&args, out),
        Action::Serve(args) => serve::run(args, out).await,
    }
}
