//! Leave to write one file: what a device is given at the start of an upload and shows with every request that follows.
//!
//! The signature covers the file, the upload and the expiry, under a key of this hub that its store keeps.
//!
//! Must not know: how a grant is spelled in a URL.
//!
//! Invariant: a grant is good for one file of one upload, until its time or the upload's end.

use crate::error::Error;
use crate::hub::lasting_key;
use ostler_core::file::FileKey;
use ostler_core::time::Timestamp;
use ostler_store::{ContentId, Store};
use ring::hmac;
use ring::rand::SystemRandom;

const SETTING: &str = "upload-grants";

/// What a device is given, and what it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadGrant {
    /// The upload.
    pub upload: ContentId,
    /// When it ends, whole seconds.
    pub expires: Timestamp,
    /// The signature.
    pub signature: [u8; 32],
}

pub(super) struct Grants(hmac::Key);

impl Grants {
    /// Takes the store's key; makes one when there is none yet.
    pub(super) async fn load(store: &dyn Store, random: &SystemRandom) -> Result<Grants, Error> {
        Ok(Grants(lasting_key(store, random, SETTING).await?))
    }

    pub(super) fn give(&self, key: &FileKey, upload: ContentId, expires: Timestamp) -> UploadGrant {
        let tag = hmac::sign(&self.0, &signed(key, upload, expires));
        let mut signature = [0; 32];
        signature.copy_from_slice(tag.as_ref());
        UploadGrant { upload, expires, signature }
    }

    pub(super) fn is_genuine(&self, key: &FileKey, grant: &UploadGrant) -> bool {
        let message = signed(key, grant.upload, grant.expires);
        hmac::verify(&self.0, &message, &grant.signature).is_ok()
    }
}

fn signed(key: &FileKey, upload: ContentId, expires: Timestamp) -> Vec<u8> {
    format!("upload\n{key}\n{upload}\n{}", expires.unix_secs()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_for_one_file_one_upload_and_one_time() {
        let grants = Grants(hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]));
        let key = FileKey::parse("pump-7/a").unwrap();
        let end = Timestamp::from_unix_secs(1_800_000_000);
        let grant = grants.give(&key, ContentId::new([1; 16]), end);
        assert!(grants.is_genuine(&key, &grant));
        assert!(!grants.is_genuine(&FileKey::parse("pump-7/b").unwrap(), &grant));
        assert!(!grants.is_genuine(&key, &UploadGrant { upload: ContentId::new([2; 16]), ..grant.clone() }));
        assert!(!grants.is_genuine(&key, &UploadGrant { expires: end.plus_secs(1), ..grant.clone() }));
        let other = Grants(hmac::Key::new(hmac::HMAC_SHA256, &[8; 32]));
        assert!(!other.is_genuine(&key, &grant));
    }
}
