//! Who asks, and whether that is enough for the route.
//!
//! Must not know how a token is judged; the hub does that.
//!
//! Invariant: a remembered grant is used only for the very token it was given for, until that token ends or any policy
//! changes.
//! Invariant: a grant for part of the hub's paths is never remembered, because it says nothing about other paths.

use super::answer::Failure;
use crate::app::App;
use crate::peer::Peer;
use http::request::Parts;
use http::{header, HeaderValue};
use ostler_core::auth::{AuthFailure, Rights, ServiceGrant};
use ostler_core::sas::{MatchCase, Token};
use ostler_wire::rest::error::ErrorCode;
use ostler_wire::rest::route::Access;
use parking_lot::Mutex;

/// The grant of a connection's last token: clients send the same one for an hour.
#[derive(Default)]
pub(super) struct Grants(Mutex<Option<Remembered>>);

struct Remembered {
    token: HeaderValue,
    policies_revision: u64,
    grant: ServiceGrant,
}

impl Grants {
    /// Checks that the caller may use a route. Its connection keeps its place once one was granted.
    pub(super) fn check(&self, app: &App, peer: &Peer, head: &Parts, access: Access) -> Result<(), Failure> {
        // A device signs in as the one that its call is about.
        if matches!(access, Access::Open | Access::Device) {
            return Ok(());
        }
        let Some(token) = head.headers.get(header::AUTHORIZATION) else {
            let cause =
                AuthFailure::NoCredential { expected: "a token of a policy in the header Authorization" };
            app.hub.refuse_sign_in("policy (none)", peer.as_hub_peer(), cause);
            return Err(Failure::new(ErrorCode::IotHubUnauthorizedAccess, "Authorization header missing"));
        };
        if self.remembers(app, token, access) {
            return Ok(());
        }
        let text = token.to_str().unwrap_or_default();
        // Read before the policies are: if they change meanwhile, the grant is judged again.
        let policies_revision = app.hub.policies_revision();
        let path = head.uri.path().trim_start_matches('/');
        let grant = app.hub.authorize(text, path, Rights::ALL, peer.as_hub_peer())?;
        if !access.allows(grant.rights) {
            let name = format!("policy {}", grant.policy);
            let cause = AuthFailure::MissingRight { policy: grant.policy.into(), right: access.describe() };
            return Err(app.hub.refuse_sign_in(&name, peer.as_hub_peer(), cause).into());
        }
        peer.signed_in();
        if covers_everything(app, text) {
            *self.0.lock() = Some(Remembered { token: token.clone(), policies_revision, grant });
        }
        Ok(())
    }

    fn remembers(&self, app: &App, token: &HeaderValue, access: Access) -> bool {
        let remembered = self.0.lock();
        remembered.as_ref().is_some_and(|remembered| {
            remembered.token == *token
                && remembered.policies_revision == app.hub.policies_revision()
                && remembered.grant.expires > app.hub.now()
                && access.allows(remembered.grant.rights)
        })
    }
}

fn covers_everything(app: &App, token: &str) -> bool {
    let is_host = |name: &str| app.hub.is_host(name);
    Token::parse(token).is_ok_and(|token| token.covers("", is_host, MatchCase::Ignore))
}
