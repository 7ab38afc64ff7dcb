//! Direct methods: handlers by name, their types, and how many run at once (device §6).
//!
//! Must not know: connections.
//!
//! Invariant: a call with a handler is answered exactly once, also when the handler panics; unless a raw handler says
//! that it shall not be.
//! Invariant: no more than [`MAX_RUNNING`] handlers run at once, and no more than [`MAX_WAITING`] calls wait for one.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::Serialize;

use crate::shared::Inner;

pub(crate) const MAX_RUNNING: usize = 32;
pub(crate) const MAX_WAITING: usize = 128;

/// A call as it came.
///
/// ```no_run
/// # async fn example(client: ostler_device_sdk::Client) {
/// use ostler_device_sdk::MethodAnswer;
///
/// client.on_any_method(|call| async move {
///     println!("{}({})", call.name, call.payload);
///     Some(MethodAnswer { status: 200, payload: call.payload })
/// });
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MethodCall {
    /// The method's name.
    pub name: String,
    /// JSON text as the caller sent it; empty if it sent nothing.
    pub payload: String,
}

/// The answer to a call.
///
/// ```
/// let answer = ostler_device_sdk::MethodAnswer { status: 202, payload: r#"{"accepted":true}"#.into() };
/// # assert_eq!(answer.status, 202);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodAnswer {
    /// What the caller sees as the status; by custom as HTTP means it.
    pub status: i32,
    /// JSON text, or nothing.
    pub payload: String,
}

/// A handler's refusal: the caller sees the status and `{"message": …}`.
///
/// ```no_run
/// # async fn example(client: ostler_device_sdk::Client) {
/// use ostler_device_sdk::MethodError;
///
/// client.on_method("lockDoor", |door: u8| async move {
///     if door > 2 {
///         return Err(MethodError::new(404, "there is no such door"));
///     }
///     Ok("locked")
/// });
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({status})")]
pub struct MethodError {
    /// What the caller sees as the status.
    pub status: i32,
    /// What the caller reads.
    pub message: String,
}

impl MethodError {
    /// A refusal with this status and text.
    ///
    /// ```
    /// let error = ostler_device_sdk::MethodError::new(409, "an update is under way");
    /// assert_eq!(error.to_string(), "an update is under way (409)");
    /// ```
    pub fn new(status: i32, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    fn answer(&self) -> MethodAnswer {
        let payload = serde_json::json!({ "message": self.message }).to_string();
        MethodAnswer { status: self.status, payload }
    }
}

type Running = Pin<Box<dyn Future<Output = Option<MethodAnswer>> + Send>>;
pub(crate) type Handler = Arc<dyn Fn(MethodCall) -> Running + Send + Sync>;

/// The handlers of one client.
#[derive(Default)]
pub(crate) struct Methods {
    by_name: HashMap<Box<str>, Handler>,
    any: Option<Handler>,
    running: usize,
    waiting: VecDeque<Pending>,
}

/// A call that is to be carried out.
pub(crate) struct Pending {
    pub call: MethodCall,
    pub rid: Box<str>,
}

/// What is to be done about a call, with no lock held.
pub(crate) enum Verdict {
    Run(Handler, Pending),
    Answer(Box<str>, MethodAnswer),
    /// It waits for others to end.
    Wait,
}

impl Methods {
    /// Returns the one before, to be dropped where no lock is held.
    pub(crate) fn set(&mut self, name: &str, handler: Option<Handler>) -> Option<Handler> {
        match handler {
            Some(handler) => self.by_name.insert(name.into(), handler),
            None => self.by_name.remove(name),
        }
    }

    /// Returns the one before, to be dropped where no lock is held.
    pub(crate) fn set_any(&mut self, handler: Option<Handler>) -> Option<Handler> {
        std::mem::replace(&mut self.any, handler)
    }

    /// No more calls. Returns the handlers, to be dropped where no lock is held.
    pub(crate) fn clear(&mut self) -> Vec<Handler> {
        self.waiting.clear();
        self.by_name.drain().map(|(_, handler)| handler).chain(self.any.take()).collect()
    }

    /// A call came.
    pub(crate) fn handle(&mut self, pending: Pending) -> Verdict {
        if self.running < MAX_RUNNING {
            return self.start(pending);
        }
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(pending);
            return Verdict::Wait;
        }
        let error = MethodError::new(429, "the device carries out too many methods at once; try again later");
        Verdict::Answer(pending.rid, error.answer())
    }

    fn start(&mut self, pending: Pending) -> Verdict {
        match self.by_name.get(&*pending.call.name).or(self.any.as_ref()) {
            Some(handler) => {
                self.running += 1;
                Verdict::Run(handler.clone(), pending)
            }
            None => {
                let text = format!("there is no method `{}` on this device", pending.call.name);
                Verdict::Answer(pending.rid, MethodError::new(404, text).answer())
            }
        }
    }

    /// A handler has ended; what may start now.
    pub(crate) fn handle_ended(&mut self) -> Verdict {
        self.running -= 1;
        match self.waiting.pop_front() {
            Some(pending) => self.start(pending),
            None => Verdict::Wait,
        }
    }
}

/// Wraps a typed handler.
pub(crate) fn typed<T, R, F, Fut>(handler: F) -> Handler
where
    T: DeserializeOwned + Send + 'static,
    R: Serialize,
    F: Fn(T) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, MethodError>> + Send + 'static,
{
    let handler = Arc::new(handler);
    Arc::new(move |call: MethodCall| {
        let handler = handler.clone();
        Box::pin(async move {
            let payload = if call.payload.trim().is_empty() { "null" } else { &call.payload };
            let result = match serde_json::from_str(payload) {
                Ok(value) => handler(value).await,
                Err(error) => Err(MethodError::new(400, format!("the payload of `{}`: {error}", call.name))),
            };
            Some(result.and_then(|value| answer_of(&value)).unwrap_or_else(|error| error.answer()))
        })
    })
}

fn answer_of(value: &impl Serialize) -> Result<MethodAnswer, MethodError> {
    serde_json::to_string(value)
        .map(|payload| MethodAnswer { status: 200, payload })
        .map_err(|error| MethodError::new(500, format!("the method's result is no JSON: {error}")))
}

/// Wraps a raw handler.
pub(crate) fn raw<F, Fut>(handler: F) -> Handler
where
    F: Fn(MethodCall) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Option<MethodAnswer>> + Send + 'static,
{
    Arc::new(move |call| Box::pin(handler(call)))
}

/// Carries a call out, in a task of its own.
pub(crate) fn run(inner: &Arc<Inner>, handler: Handler, pending: Pending) {
    let guard = Guard { inner: inner.clone(), rid: Some(pending.rid), name: pending.call.name.clone() };
    inner.runtime.spawn(async move {
        let mut guard = guard;
        // The call of the closure may panic too.
        let answer = handler(pending.call).await;
        guard.settle(answer);
    });
}

/// Sees to it that the call is answered however the handler ends.
struct Guard {
    inner: Arc<Inner>,
    rid: Option<Box<str>>,
    name: String,
}

impl Guard {
    fn settle(&mut self, answer: Option<MethodAnswer>) {
        if let (Some(rid), Some(answer)) = (self.rid.take(), answer) {
            self.inner.answer(&rid, answer);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.rid.is_some() {
            tracing::error!(method = self.name, "the method's handler panicked");
            let error = MethodError::new(500, format!("the method `{}` failed on the device", self.name));
            self.settle(Some(error.answer()));
        }
        self.inner.method_ended();
    }
}

impl fmt::Debug for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Methods({} by name)", self.by_name.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, payload: &str) -> MethodCall {
        MethodCall { name: name.to_owned(), payload: payload.to_owned() }
    }

    async fn check(handler: &Handler, payload: &str, status: i32, expected: &str) {
        let answer = handler(call("m", payload)).await.unwrap();
        assert_eq!((answer.status, answer.payload.as_str()), (status, expected), "{payload}");
    }

    #[tokio::test]
    async fn payloads_and_results_are_typed() {
        let double = typed(|n: Option<u32>| async move {
            match n {
                Some(13) => Err(MethodError::new(418, "unlucky")),
                n => Ok(n.map(|n| n * 2)),
            }
        });
        check(&double, "4", 200, "8").await;
        check(&double, "", 200, "null").await;
        check(&double, "null", 200, "null").await;
        check(&double, "13", 418, r#"{"message":"unlucky"}"#).await;
        let answer = double(call("m", r#""x""#)).await.unwrap();
        assert_eq!(answer.status, 400);
        assert!(answer.payload.contains("the payload of `m`"), "{}", answer.payload);
    }

    #[test]
    fn what_runs_and_what_waits_is_bounded() {
        let mut methods = Methods::default();
        let pending = |n: usize| Pending { call: call("m", ""), rid: n.to_string().into() };
        let Verdict::Answer(_, answer) = methods.handle(pending(0)) else { panic!("no handler is there") };
        assert_eq!(
            (answer.status, answer.payload.as_str()),
            (404, r#"{"message":"there is no method `m` on this device"}"#)
        );
        assert!(methods.set("m", Some(raw(|_| async { None }))).is_none());
        for n in 0..MAX_RUNNING {
            assert!(matches!(methods.handle(pending(n)), Verdict::Run(..)));
        }
        for n in 0..MAX_WAITING {
            assert!(matches!(methods.handle(pending(n)), Verdict::Wait));
        }
        assert!(matches!(methods.handle(pending(0)), Verdict::Answer(_, MethodAnswer { status: 429, .. })));
        assert!(matches!(methods.handle_ended(), Verdict::Run(_, first) if &*first.rid == "0"));
    }
}
