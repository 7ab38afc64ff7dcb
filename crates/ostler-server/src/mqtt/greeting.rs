//! From the first byte to the CONNACK: who is this, and may it come in?
//!
//! It must not judge credentials: it takes them off the wire, the hub decides.
//!
//! Invariant: a fault of ours is answered 3, everything else that is refused 5: other codes make
//! some clients give up for good (device §2.4).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ostler_core::auth::{AuthFailure, Credential};
use ostler_core::id::EntityId;
use ostler_hub::access::ConnectRequest;
use ostler_hub::session::Session;
use ostler_hub::Error;
use ostler_wire::mqtt::packet::{Connect, Refusal};
use ostler_wire::mqtt::server;
use ostler_wire::topic::DeviceRequest;
use ostler_wire::username;

use crate::app::App;
use crate::peer::Peer;

/// How long a source that failed too often waits for each answer.
const TARPIT: Duration = Duration::from_secs(2);

/// A connection that has not signed in.
pub(super) struct Greeting {
    pub(super) wire: server::Greeting,
    /// Under way once the CONNECT is complete.
    pub(super) sign_in: Option<SignIn>,
}

pub(super) type SignIn = Pin<Box<dyn Future<Output = Result<Session, Refusal>> + Send>>;

/// Begins the sign-in that a CONNECT asks for.
pub(super) fn sign_in(app: &Arc<App>, peer: &Peer, connect: &Connect<'_>) -> SignIn {
    match Request::read(app, connect) {
        Ok(request) => Box::pin(request.run(app.clone(), peer.clone())),
        Err(cause) => {
            let error = app.hub.refuse_sign_in(&name_of(connect), peer.as_hub_peer(), cause);
            Box::pin(async move { Err(refusal(&error).await) })
        }
    }
}

/// What a CONNECT says, taken apart and its own.
struct Request {
    id: EntityId,
    token: Option<String>,
    clean_session: bool,
    model_id: Option<String>,
}

impl Request {
    fn read(app: &App, connect: &Connect<'_>) -> Result<Self, AuthFailure> {
        let login = connect.login.ok_or(AuthFailure::Door("the CONNECT has no username"))?;
        let username = username::parse(login.username).map_err(|_| {
            AuthFailure::Door(
                "the username is not of the form {hub}/{device id}[/{module id}]/?api-version=…",
            )
        })?;
        if !app.hub.is_host(username.host) {
            return Err(AuthFailure::Door("the username names another host than this hub"));
        }
        if username.entity != connect.client_id {
            return Err(AuthFailure::Door("the client id and the id in the username differ"));
        }
        let id = EntityId::parse(username.entity).map_err(|_| AuthFailure::Unknown)?;
        if let Some(will) = connect.will {
            if !matches!(DeviceRequest::parse(will.topic, &id), Ok(DeviceRequest::Telemetry { .. })) {
                return Err(AuthFailure::Door("the will's topic is not the device's own telemetry topic"));
            }
        }
        let token = match login.password {
            None | Some([]) => None,
            Some(bytes) => {
                let text =
                    std::str::from_utf8(bytes).map_err(|_| AuthFailure::Door("the password is not text"))?;
                Some(text.to_owned())
            }
        };
        let model_id = username.model_id.map(|model| model.into_owned());
        Ok(Self { id, token, clean_session: connect.clean_session, model_id })
    }

    async fn run(self, app: Arc<App>, peer: Peer) -> Result<Session, Refusal> {
        let certificate = match peer.chain().map(|chain| app.judge_certificate(chain)).transpose() {
            Ok(certificate) => certificate,
            Err(error) => {
                let cause = AuthFailure::Chain(error.to_string());
                let error = app.hub.refuse_sign_in(self.id.as_str(), peer.as_hub_peer(), cause);
                return Err(refusal(&error).await);
            }
        };
        let credential = Credential { token: self.token.as_deref(), certificate: certificate.as_ref() };
        let request = ConnectRequest {
            clean_session: self.clean_session,
            model_id: self.model_id.as_deref(),
            peer: peer.as_hub_peer(),
        };
        match app.hub.connect(&self.id, credential, request).await {
            Ok(session) => Ok(session),
            Err(error) => Err(refusal(&error).await),
        }
    }
}

/// The code for a failed sign-in. A source that failed too often waits for it.
async fn refusal(error: &Error) -> Refusal {
    match error {
        // The device was deleted while it signed in.
        Error::Unauthorized(_) | Error::DeviceNotFound(_) | Error::ModuleNotFound(_) => {
            Refusal::NotAuthorized
        }
        Error::RateLimited => {
            tokio::time::sleep(TARPIT).await;
            Refusal::NotAuthorized
        }
        error => {
            tracing::warn!(%error, "a sign-in failed for no fault of the device");
            Refusal::Unavailable
        }
    }
}

/// Under which name a refusal is remembered: what the client calls itself.
fn name_of(connect: &Connect<'_>) -> String {
    let name = if connect.client_id.is_empty() {
        connect.login.map_or("(no client id)", |login| login.username)
    } else {
        connect.client_id
    };
    name.chars().take(257).collect()
}
