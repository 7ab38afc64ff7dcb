//! The handle that programs hold.
//!
//! Must not know: sockets, MQTT.
//!
//! Invariant: an operation is queued when it is called, not when its future is first polled, unless its text says so.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::builder::Builder;
use crate::connection_string::ConnectionString;
use crate::engine::Interest;
use crate::error::{ConnectError, TwinError};
use crate::message::{Message, SendError};
use crate::messages::MessageStream;
use crate::methods::{self, Handler, MethodAnswer, MethodCall, MethodError, Methods};
use crate::queue::{DesiredStream, StatusStream};
use crate::retry::RetryPolicy;
use crate::shared::{Inner, Waiter};
use crate::status::ConnectionStatus;
use crate::twin::{check_object, Reported, Twin};

/// How long a client whose last handle is dropped goes on sending what it was given.
const LAST_WISH: Duration = Duration::from_secs(5);

/// A device's or module's connection to its hub. Cheap to clone; all clones are the same client.
///
/// It connects by itself when something needs the hub, and comes back by itself when the connection breaks, as its
/// [`RetryPolicy`] says. When the last clone is dropped, what is queued is sent for a few seconds more, then the client
/// takes leave; [`Client::close`] does the same and tells what came of it. Handlers that hold a clone keep the client
/// alive: close it then.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use ostler_device_sdk::{Client, Message};
/// use std::time::Duration;
///
/// let client = Client::builder(std::env::var("DEVICE_CONNECTION_STRING")?.parse()?).build()?;
/// client.on_method("reboot", |delay: Option<u64>| async move { Ok(format!("in {} s", delay.unwrap_or(0))) });
/// client.report(&serde_json::json!({"firmware": "2.1"})).await?;
/// client.send(Message::new("21.5").property("unit", "celsius")).await?;
/// client.close(Duration::from_secs(5)).await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    handle: Arc<Owner>,
}

/// Lives as long as there are handles; the client's task and streams do not count.
struct Owner(Arc<Inner>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.close(LAST_WISH);
    }
}

/// What [`Client::close`] could not get done.
///
/// ```no_run
/// # async fn example(client: ostler_device_sdk::Client) {
/// let closed = client.close(std::time::Duration::from_secs(5)).await;
/// println!("{} messages and reports were not confirmed", closed.unsent);
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// Messages and reported properties that the hub has not confirmed. Some may have arrived all the same.
    pub unsent: usize,
}

impl Client {
    /// Begins the setup of a client.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let connection = std::env::var("DEVICE_CONNECTION_STRING")?.parse()?;
    /// let client = ostler_device_sdk::Client::builder(connection).build()?;
    /// # Ok(()) }
    /// ```
    pub fn builder(connection: ConnectionString) -> Builder {
        Builder::new(connection)
    }

    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { handle: Arc::new(Owner(inner)) }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.handle.0
    }

    /// Connects, and returns once the hub has let the device in. Not needed: every operation connects by itself. Also
    /// tries again after the client has given up.
    ///
    /// # Errors
    /// [`ConnectError`], once the client gives up: after what its retry policy allows, or at once where trying again
    /// cannot help. Without a budget in the policy it tries for ever.
    ///
    /// ```no_run
    /// # async fn example(client: ostler_device_sdk::Client) -> Result<(), ostler_device_sdk::ConnectError> {
    /// client.connect().await?;
    /// # Ok(()) }
    /// ```
    pub async fn connect(&self) -> Result<(), ConnectError> {
        let before = self.inner().operate(|core, now| {
            core.engine.start(now);
            core.changes()
        });
        let before = before.ok_or(ConnectError::Closed)?;
        let outcome = self.inner().wait_for(|core| match core.status() {
            ConnectionStatus::Connected => Some(Ok(())),
            ConnectionStatus::Closed => Some(Err(ConnectError::Closed)),
            ConnectionStatus::Refused { cause } if core.changes() > before => {
                Some(Err(ConnectError::Refused { cause, detail: core.detail().to_owned() }))
            }
            _ => None,
        });
        outcome.await
    }

    /// How the connection does.
    ///
    /// ```no_run
    /// # fn example(client: ostler_device_sdk::Client) {
    /// println!("{:?}", client.status());
    /// # }
    /// ```
    pub fn status(&self) -> ConnectionStatus {
        self.inner().lock().status()
    }

    /// What went wrong last with the connection, for people: more exact than the [`Cause`](crate::Cause) of the status,
    /// which is for programs. Empty when all is well.
    ///
    /// ```no_run
    /// # fn example(client: ostler_device_sdk::Client) {
    /// eprintln!("{:?}: {}", client.status(), client.last_problem());
    /// # }
    /// ```
    pub fn last_problem(&self) -> String {
        let core = self.inner().lock();
        match core.status() {
            ConnectionStatus::Disconnected { cause, .. } | ConnectionStatus::Refused { cause } => {
                let detail = core.detail();
                if detail.is_empty() {
                    cause.to_string()
                } else {
                    detail.to_owned()
                }
            }
            _ => String::new(),
        }
    }

    /// Changes of the status, from now on.
    ///
    /// ```no_run
    /// # async fn example(client: ostler_device_sdk::Client) {
    /// let mut changes = client.status_changes();
    /// while let Some(status) = changes.next().await {
    ///     println!("{status:?}");
    /// }
    /// # }
    /// ```
    pub fn status_changes(&self) -> StatusStream {
        let mut core = self.inner().lock();
        let over = core.is_over();
        StatusStream(core.statuses().subscribe(false, over))
    }

    /// Sends a message. It is queued at the call; the future tells when the hub has confirmed it, and dropping the
    /// future does not take the message back. Messages arrive at least once, in order.
    ///
    /// ```no_run
    /// # async fn example(client: ostler_device_sdk::Client) -> Result<(), ostler_device_sdk::SendError> {
    /// use ostler_device_sdk::Message;
    ///
    /// let first = client.send(Message::new("1"));
    /// let second = client.send(Message::new("2"));
    /// first.await?;
    /// second.await?;
    /// # Ok(()) }
    /// ```
    pub fn send(&self, message: impl Into<Message>) -> Sending {
        let message = message.into();
        let timeout = message.timeout;
        let (answer, receiver) = oneshot::channel();
        match message.prepare() {
            Err(error) => drop(answer.send(Err(error))),
            // Without a client the answer is dropped, which says that it is closed.
            Ok(prepared) => {
                self.inner().operate(|core, now| {
                    let expires = timeout.map(|timeout| later(now, timeout));
                    let token = core.wait(Waiter::Sent(answer));
                    core.engine.send(token, prepared, expires, now);
                });
            }
        }
        Sending(receiver)
    }

    /// Sends a message through an output of a module.
    ///
    /// ```no_run
    /// # async fn example(module: ostler_device_sdk::Client) -> Result<(), ostler_device_sdk::SendError> {
    /// module.send_to_output("alerts", "too hot").await?;
    /// # Ok(()) }
    /// ```
    pub fn send_to_output(&self, output: &str, message: impl Into<Message>) -> Sending {
        self.send(message.into().output(output))
    }

    /// Reads the twin. Asked for when the future is first polled.
    ///
    /// # Errors
    /// [`TwinError`], also if the hub does not answer within [`Builder::operation_timeout`].
    ///
    /// ```no_run
    /// # async fn example(client: ostler_device_sdk::Client) -> Result<(), ostler_device_sdk::TwinError> {
    /// let twin = client.twin().await?;
    /// println!("{:?}", twin.desired().get("interval"));
    /// # Ok(()) }
    /// ```
    pub async fn twin(&self) -> Result<Twin, TwinError> {
        Twin::parse(&self.twin_bytes().await?)
    }

    /// Reads the twin as the hub writes it.
    ///
    /// # Errors
    /// As [`Client::twin`].
    ///
    /// ```no_run
    /// # async fn example(client: ostler_device_sdk::Client) -> Result<(), ostler_device_sdk::TwinError> {
    /// println!("{}", client.twin_json().await?);
    /// # Ok(()) }
    /// ```
    pub async fn twin_json(&self) -> Result<String, TwinError> {
        let bytes = self.twin_bytes().await?;
        String::from_utf8(bytes.into()).map_err(|error| TwinError::Shape(error.to_string()))
    }

    async fn twin_bytes(&self) -> Result<Bytes, TwinError> {
        let (answer, receiver) = oneshot::channel();
        let timeout = self.inner().operation_timeout;
        self.inner().operate(|core, now| {
            let token = core.wait(Waiter::Twin(answer));
            core.engine.get_twin(token, Some(later(now, timeout)), now);
        });
        receiver.await.unwrap_or(Err(TwinError::Closed))
    }

    /// Reports properties: what is in the object is merged into the reported properties, what is null in it is removed.
    /// Queued at the call, in order with other reports.
    ///
    /// # Errors
    /// [`TwinError`], also if the hub does not answer within [`Builder::operation_timeout`].
    ///
    /// ```no_run
    /// #[derive(serde::Serialize)]
    /// struct State {
    ///     fan: bool,
    /// }
    /// # async fn example(client: ostler_device_sdk::Client) -> Result<(), ostler_device_sdk::TwinError> {
    /// client.report(&State { fan: true }).await?;
    /// # Ok(()) }
    /// ```
    pub fn report(&self, properties: &(impl Serialize + ?Sized)) -> Reporting {
        match serde_json::to_vec(properties) {
            Ok(json) => self.report_bytes(json),
            Err(error) => Reporting::failed(TwinError::NotAnObject(error.to_string())),
        }
    }

    /// [`Client::report`] with the patch as JSON text, sent as it is.
    ///
    /// ```no_run
    /// # async fn example(client: ostler_device_sdk::Client) -> Result<(), ostler_device_sdk::TwinError> {
    /// client.report_json(r#"{"fan":{"speed":1.50}}"#).await?;
    /// # Ok(()) }
    /// ```
    pub fn report_json(&self, json: impl Into<String>) -> Reporting {
        self.report_bytes(json.into().into_bytes())
    }

    fn report_bytes(&self, json: Vec<u8>) -> Reporting {
        if let Err(error) = check_object(&json) {
            return Reporting::failed(error);
        }
        let (answer, receiver) = oneshot::channel();
        let timeout = self.inner().operation_timeout;
        self.inner().operate(|core, now| {
            let token = core.wait(Waiter::Reported(answer));
            core.engine.report(token, json.into(), Some(later(now, timeout)), now);
        });
        Reporting(receiver)
    }

    /// Desired properties: all of them first, then changes as they come. After a reconnect the versions are compared,
    /// and if something was missed, all of them come again.
    ///
    /// ```no_run
    /// #[derive(serde::Deserialize)]
    /// struct Wishes {
    ///     interval: Option<u32>,
    /// }
    /// # async fn example(client: ostler_device_sdk::Client) -> Result<(), ostler_device_sdk::TwinError> {
    /// let mut updates = client.desired();
    /// while let Some(update) = updates.next().await {
    ///     if let Some(interval) = update.to::<Wishes>()?.interval {
    ///         println!("every {interval} s");
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub fn desired(&self) -> DesiredStream {
        let queue = self.inner().operate(|core, now| core.subscribe_desired(now));
        DesiredStream(queue.unwrap_or_else(crate::queue::Queue::ended))
    }

    /// Answers a direct method: the handler gets the payload as its type and answers 200 with what it returns, or with
    /// the status and text of its [`MethodError`]. A payload that does not fit is answered 400, a handler that panics
    /// 500, a method without a handler 404. Handlers run side by side, up to 32 at once; further calls wait their turn.
    ///
    /// ```no_run
    /// #[derive(serde::Deserialize)]
    /// struct Lock {
    ///     door: u8,
    /// }
    /// # async fn example(client: ostler_device_sdk::Client) {
    /// client.on_method("lockDoor", |lock: Lock| async move {
    ///     println!("door {} is locked", lock.door);
    ///     Ok(serde_json::json!({"locked": lock.door}))
    /// });
    /// # }
    /// ```
    pub fn on_method<T, R, F, Fut>(&self, name: &str, handler: F)
    where
        T: DeserializeOwned + Send + 'static,
        R: Serialize,
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, MethodError>> + Send + 'static,
    {
        self.set_method(|methods| methods.set(name, Some(methods::typed(handler))));
    }

    /// Answers a direct method with any status and any text. `None` is no answer at all: the caller waits in vain.
    ///
    /// ```no_run
    /// # async fn example(client: ostler_device_sdk::Client) {
    /// use ostler_device_sdk::MethodAnswer;
    ///
    /// client.on_raw_method("reboot", |call| async move {
    ///     Some(MethodAnswer { status: 202, payload: format!(r#"{{"asked":{}}}"#, call.payload) })
    /// });
    /// # }
    /// ```
    pub fn on_raw_method<F, Fut>(&self, name: &str, handler: F)
    where
        F: Fn(MethodCall) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Option<MethodAnswer>> + Send + 'static,
    {
        self.set_method(|methods| methods.set(name, Some(methods::raw(handler))));
    }

    /// Answers all direct methods that have no handler of their own.
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
    pub fn on_any_method<F, Fut>(&self, handler: F)
    where
        F: Fn(MethodCall) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Option<MethodAnswer>> + Send + 'static,
    {
        self.set_method(|methods| methods.set_any(Some(methods::raw(handler))));
    }

    /// Takes a method's handler away; the method is then answered as unknown.
    ///
    /// ```no_run
    /// # async fn example(client: ostler_device_sdk::Client) {
    /// client.remove_method("reboot");
    /// # }
    /// ```
    pub fn remove_method(&self, name: &str) {
        self.set_method(|methods| methods.set(name, None));
    }

    /// Takes the handler of [`Client::on_any_method`] away.
    ///
    /// ```no_run
    /// # async fn example(client: ostler_device_sdk::Client) {
    /// client.remove_any_method();
    /// # }
    /// ```
    pub fn remove_any_method(&self) {
        self.set_method(|methods| methods.set_any(None));
    }

    fn set_method(&self, set: impl FnOnce(&mut Methods) -> Option<Handler>) {
        let before = self.inner().operate(|core, now| {
            core.engine.listen(Interest::Methods, now);
            set(&mut core.methods)
        });
        // May be what holds a client, so it is dropped out here.
        drop(before);
    }

    /// Messages from the cloud, for devices. Taking one from the stream acknowledges it; see
    /// [`MessageStream::manual`] for doing so later.
    ///
    /// ```no_run
    /// # async fn example(client: ostler_device_sdk::Client) {
    /// let mut messages = client.messages();
    /// while let Some(message) = messages.next().await {
    ///     println!("{:?}", message.text());
    /// }
    /// # }
    /// ```
    pub fn messages(&self) -> MessageStream {
        self.listen_to_messages(Interest::Messages, None)
    }

    /// Messages to one input of a module.
    ///
    /// ```no_run
    /// # async fn example(module: ostler_device_sdk::Client) {
    /// let mut temperatures = module.input("temperatures");
    /// while let Some(message) = temperatures.next().await {
    ///     println!("{:?}", message.text());
    /// }
    /// # }
    /// ```
    pub fn input(&self, name: &str) -> MessageStream {
        self.listen_to_messages(Interest::Inputs, Some(name))
    }

    /// Messages to all inputs of a module.
    ///
    /// ```no_run
    /// # async fn example(module: ostler_device_sdk::Client) {
    /// let mut messages = module.inputs();
    /// while let Some(message) = messages.next().await {
    ///     println!("{:?}: {:?}", message.input, message.text());
    /// }
    /// # }
    /// ```
    pub fn inputs(&self) -> MessageStream {
        self.listen_to_messages(Interest::Inputs, None)
    }

    fn listen_to_messages(&self, interest: Interest, input: Option<&str>) -> MessageStream {
        let id = self.inner().operate(|core, now| {
            core.engine.listen(interest, now);
            core.mailbox.next_stream()
        });
        MessageStream::new(self.inner().clone(), id.unwrap_or(0), input)
    }

    /// How many messages, twin requests and answers to methods wait to be sent or confirmed.
    ///
    /// ```no_run
    /// # fn example(client: ostler_device_sdk::Client) {
    /// println!("{} under way", client.pending());
    /// # }
    /// ```
    pub fn pending(&self) -> usize {
        self.inner().lock().engine.pending()
    }

    /// Waits until nothing is pending, but no longer than `patience`. Returns how much still is.
    ///
    /// ```no_run
    /// # async fn example(client: ostler_device_sdk::Client) {
    /// if client.flush(std::time::Duration::from_secs(5)).await > 0 {
    ///     println!("the hub is slow, or out of reach");
    /// }
    /// # }
    /// ```
    pub async fn flush(&self, patience: Duration) -> usize {
        let empty = self.inner().wait_for(|core| (core.engine.pending() == 0).then_some(()));
        match tokio::time::timeout(patience, empty).await {
            Ok(()) => 0,
            Err(_) => self.pending(),
        }
    }

    /// Sends what is queued, for `patience` at most, and takes leave of the hub. Everything that is not confirmed by
    /// then fails with `Closed`, and streams end. Nothing can be asked of the client afterwards.
    ///
    /// ```no_run
    /// # async fn example(client: ostler_device_sdk::Client) {
    /// client.close(std::time::Duration::from_secs(5)).await;
    /// # }
    /// ```
    pub async fn close(&self, patience: Duration) -> Closed {
        self.inner().close(patience);
        let unsent = self.inner().wait_for(|core| core.is_over().then(|| core.unsent()));
        Closed { unsent: unsent.await }
    }

    /// Changes the retry policy from the next attempt on.
    ///
    /// ```no_run
    /// # fn example(client: ostler_device_sdk::Client) {
    /// client.set_retry(ostler_device_sdk::RetryPolicy::none());
    /// # }
    /// ```
    pub fn set_retry(&self, policy: RetryPolicy) {
        self.inner().adjust(|core, now| core.engine.set_retry(policy, now));
    }

    /// Replaces the ready-made token of a connection string with `SharedAccessSignature`; it is shown at the next
    /// connect. Returns false if the device does not sign in with one.
    ///
    /// ```no_run
    /// # fn example(client: ostler_device_sdk::Client, token: String) {
    /// client.set_token(token);
    /// # }
    /// ```
    pub fn set_token(&self, token: impl Into<String>) -> bool {
        self.inner().credential.replace_token(token.into())
    }

    /// HTTPS requests with the trust, proxy and credential of this client.
    ///
    /// ```no_run
    /// # async fn example(client: ostler_device_sdk::Client) -> Result<(), ostler_device_sdk::http::HttpError> {
    /// let answer = client.https().get("https://files.example.net/image.bin").send().await?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "http")]
    pub fn https(&self) -> crate::http::Https {
        self.inner().https.clone()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("hub", &self.inner().route.authority())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

fn later(now: u64, timeout: Duration) -> u64 {
    now.saturating_add(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
}

/// The way of a message, from [`Client::send`]: resolves when the hub has confirmed it. May be dropped.
///
/// ```no_run
/// # async fn example(client: ostler_device_sdk::Client) {
/// let sending = client.send("hello");
/// println!("{:?}", sending.await);
/// # }
/// ```
#[derive(Debug)]
pub struct Sending(oneshot::Receiver<Result<(), SendError>>);

impl Future for Sending {
    type Output = Result<(), SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|result| result.unwrap_or(Err(SendError::Closed)))
    }
}

/// The way of reported properties, from [`Client::report`]: resolves when the hub has taken them. May be dropped.
///
/// ```no_run
/// # async fn example(client: ostler_device_sdk::Client) {
/// let reporting = client.report_json(r#"{"fan":"on"}"#);
/// println!("{:?}", reporting.await);
/// # }
/// ```
#[derive(Debug)]
pub struct Reporting(oneshot::Receiver<Result<Reported, TwinError>>);

impl Reporting {
    fn failed(error: TwinError) -> Self {
        let (answer, receiver) = oneshot::channel();
        drop(answer.send(Err(error)));
        Self(receiver)
    }
}

impl Future for Reporting {
    type Output = Result<Reported, TwinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|result| result.unwrap_or(Err(TwinError::Closed)))
    }
}
