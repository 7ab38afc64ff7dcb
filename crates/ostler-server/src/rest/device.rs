//! Devices that speak HTTP: their sign-in, request by request (device §8.1).
//!
//! Must not know how a credential is judged; the hub does that.
//!
//! Invariant: a name nobody registered looks like a wrong key, unless the caller may connect as any device.

use super::answer::Failure;
use crate::app::App;
use crate::peer::Peer;
use http::header;
use http::request::Parts;
use ostler_core::auth::{AuthFailure, Credential, Grant, Rights};
use ostler_core::id::EntityId;
use ostler_hub::Error;

/// Signs the device or module in that a request is about: by the token in `Authorization`, its own or a policy's, or by
/// the certificate of the connection.
pub(super) async fn sign_in(app: &App, peer: &Peer, head: &Parts, id: &EntityId) -> Result<Grant, Failure> {
    let certificate = match peer.chain().map(|chain| app.judge_certificate(chain)).transpose() {
        Ok(certificate) => certificate,
        Err(error) => {
            let cause = AuthFailure::Chain(error.to_string());
            return Err(app.hub.refuse_sign_in(id.as_str(), peer.as_hub_peer(), cause).into());
        }
    };
    let token = head.headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
    let credential = Credential { token, certificate: certificate.as_ref() };
    match app.hub.authenticate(id, credential, peer.as_hub_peer()).await {
        Ok(grant) => {
            peer.signed_in();
            Ok(grant)
        }
        Err(Error::Unauthorized(AuthFailure::Unknown)) if may_be_any_device(app, peer, head, token) => {
            Err(match id.module() {
                None => Error::DeviceNotFound(id.to_string()),
                Some(_) => Error::ModuleNotFound(id.to_string()),
            }
            .into())
        }
        Err(error) => Err(error.into()),
    }
}

fn may_be_any_device(app: &App, peer: &Peer, head: &Parts, token: Option<&str>) -> bool {
    let path = head.uri.path().trim_start_matches('/');
    token.is_some_and(|token| {
        app.hub.authorize(token, path, Rights::DEVICE_CONNECT, peer.as_hub_peer()).is_ok()
    })
}
