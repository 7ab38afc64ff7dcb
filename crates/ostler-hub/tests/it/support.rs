//! A hub to test with, and devices connected to it.

use ostler_core::auth::Credential;
use ostler_core::id::EntityId;
use ostler_core::identity::{Authentication, IdentitySpec};
use ostler_core::json::Object;
use ostler_core::record::{Delivery, Interest};
use ostler_core::sas::sign;
use ostler_core::twin::{SectionPatch, TwinContent, TwinPatch};
use ostler_hub::access::{ConnectRequest, Peer};
use ostler_hub::registry::{Action, Operation};
use ostler_hub::session::{EndReason, News, Session};
use ostler_hub::{Error, Hub, IfMatch, Options, View};
use ostler_store::Embedded;
use std::future::poll_fn;
use std::sync::Arc;

pub const PEER: Peer = Peer { addr: None, transport: "test" };

pub async fn hub() -> Arc<Hub> {
    hub_with(Options::default()).await
}

pub async fn hub_with(options: Options) -> Arc<Hub> {
    Hub::open(Arc::new(Embedded::in_memory()), options).await.unwrap()
}

pub fn id(text: &str) -> EntityId {
    EntityId::parse(text).unwrap()
}

pub fn object(text: &str) -> Object {
    Object::parse(text.as_bytes()).unwrap()
}

pub fn operation(text: &str, action: Action) -> Operation {
    Operation { id: id(text), action, identity: IdentitySpec::default(), twin: TwinContent::default() }
}

pub async fn create(hub: &Hub, text: &str) -> View {
    hub.apply(operation(text, Action::Create)).await.unwrap().unwrap()
}

pub async fn token(hub: &Hub, text: &str) -> String {
    let id = id(text);
    let Authentication::Sas { primary, .. } = hub.identity(&id).await.unwrap().record.identity.authentication
    else {
        panic!("{text} has no keys")
    };
    let resource = match id.module() {
        None => format!("localhost/devices/{}", id.device()),
        Some(module) => format!("localhost/devices/{}/modules/{module}", id.device()),
    };
    sign(&resource, &primary, hub.now().plus_secs(3600), None)
}

pub async fn try_connect(
    hub: &Arc<Hub>,
    text: &str,
    token: &str,
    clean_session: bool,
) -> Result<Session, Error> {
    let credential = Credential { token: Some(token), certificate: None };
    hub.connect(&id(text), credential, ConnectRequest { clean_session, model_id: None, peer: PEER }).await
}

pub async fn connect(hub: &Arc<Hub>, text: &str, clean_session: bool) -> Session {
    let token = token(hub, text).await;
    try_connect(hub, text, &token, clean_session).await.unwrap()
}

pub async fn subscribe(hub: &Hub, session: &Session, interests: &[Interest]) {
    let wishes: Vec<_> = interests.iter().map(|i| (*i, Some(Delivery::AtMostOnce))).collect();
    hub.subscribe(session.state(), &wishes).await.unwrap();
}

/// The next news; the test's own timeout catches news that never come.
pub async fn news(session: &mut Session) -> Result<News, EndReason> {
    poll_fn(|cx| session.poll_news(cx)).await
}

/// Whether nothing waits in the inbox.
pub async fn is_quiet(session: &mut Session) -> bool {
    poll_fn(|cx| std::task::Poll::Ready(session.poll_news(cx).is_pending())).await
}

pub fn desired(text: &str) -> TwinPatch {
    TwinPatch { tags: None, desired: Some(SectionPatch::Merge(object(text))) }
}

pub async fn patch(hub: &Hub, text: &str, patch: &TwinPatch) -> View {
    hub.patch_twin(&id(text), &IfMatch::Any, patch).await.unwrap()
}

pub fn desired_text(view: &View) -> String {
    let mut out = Vec::new();
    view.record.twin.desired.write_values(&mut out);
    String::from_utf8(out).unwrap()
}
