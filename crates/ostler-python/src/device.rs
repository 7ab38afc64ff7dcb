//! The bridge to the device SDK: one [`DeviceClient`] per client of the Python side, and the events that its worker
//! thread takes from it.
//!
//! Commands return at once; what becomes of them comes as an event with the token they were given. What events mean to
//! programs is decided in Python.
//!
//! Must not know: names, texts and enums of the retired package, callbacks.
//!
//! Invariant: constructing a [`DeviceClient`] touches no network.
//! Invariant: each token of a message or a report comes back in exactly one event, unless the client is abandoned.
//! Invariant: events that the hub can cause without end are bounded; who does not take them stops their source.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use ostler_device_sdk::{Client, ConnectionString, DesiredUpdate, Message, MethodAnswer, ReceivedMessage};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot, watch, Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore};

use crate::device_invoke::{invoke, method_call};
use crate::device_outcome::{report_status, send_outcome, status_reason};
use crate::device_settings::{build, retry_policy};
use crate::runtime::{rest, shared};

/// Messages, calls and twins that wait to be taken; more stay in the SDK, or at the hub.
const WAITING_EVENTS: usize = 256;
/// Who calls a method waits no longer (device §6); a call that a program forgets must not keep others out.
const CALL_LIFETIME: Duration = Duration::from_secs(300);
/// What the hub gets beyond a call's own time to say that it is over.
const CALL_MARGIN: Duration = Duration::from_secs(30);
/// What next_event says when the time was up.
const LIMIT: &str = "limit";

/// Something that happened.
#[derive(Debug)]
enum Event {
    Sent { token: u64, outcome: &'static str },
    Reported { token: u64, status: Option<u16> },
    Status { connected: bool, reason: &'static str },
    Twin { whole: bool, text: String },
    Message(Box<ReceivedMessage>),
    Method { call: u64, name: String, payload: String },
    End,
}

/// An event, and its place among those that wait.
#[derive(Debug)]
struct Slot {
    event: Event,
    _place: Option<OwnedSemaphorePermit>,
}

/// What the tasks of a client write to.
#[derive(Debug, Clone)]
struct Outlet {
    events: mpsc::UnboundedSender<Slot>,
    places: Arc<Semaphore>,
}

impl Outlet {
    /// For what the program has asked for; the SDK's queue bounds it.
    fn tell(&self, event: Event) {
        // Nobody takes events any more once the client is abandoned.
        let _ = self.events.send(Slot { event, _place: None });
    }

    /// For what the hub causes: waits until there is a place.
    async fn tell_in_turn(&self, event: Event) {
        if let Ok(place) = Arc::clone(&self.places).acquire_owned().await {
            let _ = self.events.send(Slot { event, _place: Some(place) });
        }
    }
}

/// What the task of a client is told to wait for.
enum Work {
    /// Something queued in the SDK, which ends in an event.
    Outcome(BoxFuture<'static, Event>),
    /// The end, after so much time for what is queued.
    Close(Duration),
}

type Calls = Arc<Mutex<HashMap<u64, oneshot::Sender<Option<MethodAnswer>>>>>;

/// A client of one device or module.
#[pyclass(frozen, module = "ostler_iothub._native")]
pub(crate) struct DeviceClient {
    client: Client,
    runtime: &'static Runtime,
    outlet: Outlet,
    work: mpsc::UnboundedSender<Work>,
    waiting_work: Mutex<Option<mpsc::UnboundedReceiver<Work>>>,
    inlet: AsyncMutex<mpsc::UnboundedReceiver<Slot>>,
    abandoned: watch::Sender<bool>,
    connected_once: Arc<AtomicBool>,
    watching_twin: AtomicBool,
    watching_methods: AtomicBool,
    watching_messages: AtomicBool,
    watching_inputs: AtomicBool,
    calls: Calls,
    next_call: Arc<AtomicU64>,
}

#[pymethods]
impl DeviceClient {
    /// Raises ValueError for settings that cannot work; opens no connection.
    #[new]
    fn new(connection_string: &str, settings: &Bound<'_, PyDict>) -> PyResult<Self> {
        let connection: ConnectionString = connection_string.parse().map_err(value_error)?;
        let runtime = shared()?;
        let client = build(connection, settings, runtime)?;
        let (events, inlet) = mpsc::unbounded_channel();
        let (work, waiting_work) = mpsc::unbounded_channel();
        Ok(Self {
            client,
            runtime,
            outlet: Outlet { events, places: Arc::new(Semaphore::new(WAITING_EVENTS)) },
            work,
            waiting_work: Mutex::new(Some(waiting_work)),
            inlet: AsyncMutex::new(inlet),
            abandoned: watch::channel(false).0,
            connected_once: Arc::default(),
            watching_twin: AtomicBool::new(false),
            watching_methods: AtomicBool::new(false),
            watching_messages: AtomicBool::new(false),
            watching_inputs: AtomicBool::new(false),
            calls: Calls::default(),
            next_call: Arc::new(AtomicU64::new(1)),
        })
    }

    /// Connects in the background and tells of every change.
    fn start(&self) {
        let mut changes = self.client.status_changes();
        let (outlet, connected_once) = (self.outlet.clone(), Arc::clone(&self.connected_once));
        self.runtime.spawn(async move {
            while let Some(status) = changes.next().await {
                if let Some((connected, reason)) = status_reason(status) {
                    connected_once.fetch_or(connected, Ordering::SeqCst);
                    outlet.tell(Event::Status { connected, reason });
                }
            }
        });
        if let Some(work) = self.waiting_work.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.runtime.spawn(look_after(self.client.clone(), work, self.outlet.clone()));
        }
        let client = self.client.clone();
        // Failures are told as changes of status.
        self.runtime.spawn(async move { client.connect().await });
    }

    /// Whether there has ever been a connection.
    fn has_connected(&self) -> bool {
        self.connected_once.load(Ordering::SeqCst)
    }

    /// Why there is no connection, for people; empty if there is one.
    fn problem(&self) -> String {
        self.client.last_problem()
    }

    /// How much is queued or unacknowledged.
    fn pending(&self) -> usize {
        self.client.pending()
    }

    /// Queues a message. `limit_ms` is its timeout.
    #[pyo3(signature = (token, body, properties, system, output, limit_ms))]
    fn send(
        &self,
        token: u64,
        body: &[u8],
        properties: Vec<(String, String)>,
        system: HashMap<String, String>,
        output: Option<String>,
        limit_ms: Option<u64>,
    ) {
        let mut message = Message::new(body.to_vec());
        message.properties = properties;
        message.timeout = limit_ms.map(Duration::from_millis);
        for (name, value) in system {
            match name.as_str() {
                "message_id" => message.message_id = Some(value),
                "correlation_id" => message.correlation_id = Some(value),
                "content_type" => message.content_type = Some(value),
                "content_encoding" => message.content_encoding = Some(value),
                _ => message.properties.push((name, value)),
            }
        }
        message.output = output;
        let _context = self.runtime.enter();
        let sending = self.client.send(message);
        self.wait_for(async move { Event::Sent { token, outcome: send_outcome(sending.await) } });
    }

    /// Queues a patch of reported properties.
    fn report(&self, token: u64, patch: &[u8]) {
        let _context = self.runtime.enter();
        // A patch that was cut within a character is no JSON either way, and the status says so.
        let reporting = self.client.report_json(String::from_utf8_lossy(patch));
        self.wait_for(async move { Event::Reported { token, status: report_status(reporting.await) } });
    }

    /// Subscribes to `twin`, `methods`, `messages` or `inputs`. Asked for the twin again, it reads it again.
    fn watch(&self, what: &str) -> PyResult<()> {
        let _context = self.runtime.enter();
        match what {
            "twin" if self.watching_twin.swap(true, Ordering::SeqCst) => self.read_twin(),
            "twin" => self.watch_twin(),
            "methods" if !self.watching_methods.swap(true, Ordering::SeqCst) => self.watch_methods(),
            "messages" if !self.watching_messages.swap(true, Ordering::SeqCst) => {
                let (mut messages, outlet) = (self.client.messages(), self.outlet.clone());
                self.runtime.spawn(async move {
                    while let Some(message) = messages.next().await {
                        outlet.tell_in_turn(Event::Message(Box::new(message))).await;
                    }
                });
            }
            "inputs" if !self.watching_inputs.swap(true, Ordering::SeqCst) => {
                let (mut messages, outlet) = (self.client.inputs(), self.outlet.clone());
                self.runtime.spawn(async move {
                    while let Some(message) = messages.next().await {
                        outlet.tell_in_turn(Event::Message(Box::new(message))).await;
                    }
                });
            }
            "methods" | "messages" | "inputs" => {}
            other => return Err(PyValueError::new_err(format!("nothing is called {other}"))),
        }
        Ok(())
    }

    /// Answers a call; no status is no answer at all.
    fn answer(&self, call: u64, status: Option<i32>, payload: String) {
        let waiting = self.calls.lock().unwrap_or_else(PoisonError::into_inner).remove(&call);
        if let Some(waiting) = waiting {
            // Who asked may have gone.
            let _ = waiting.send(status.map(|status| MethodAnswer { status, payload }));
        }
    }

    /// Changes how connections are tried again; `policy` is the retired package's name of it.
    fn set_retry(&self, policy: &str, limit_secs: u64) {
        self.client.set_retry(retry_policy(policy, limit_secs));
    }

    /// Replaces the token of a client that was made with one; false if it was not.
    fn replace_token(&self, token: String) -> bool {
        self.client.set_token(token)
    }

    /// Uploads a file; the outcome is 0, or no number and a reason.
    fn upload(&self, name: &str, content: Vec<u8>) -> Task {
        let upload = self.client.upload(name, content);
        Task::begin(self.runtime, async move {
            match upload.await {
                Ok(_) => (Some(0), String::new()),
                Err(error) => (None, error.to_string()),
            }
        })
    }

    /// Calls a method of another device or module, as modules may; the outcome is a status and the payload, or no
    /// status and a reason.
    #[pyo3(signature = (device, module, method, payload, limit_secs))]
    fn invoke(
        &self,
        device: &str,
        module: Option<&str>,
        method: &str,
        payload: &str,
        limit_secs: u64,
    ) -> Task {
        let (https, device, module) = (self.client.https(), device.to_owned(), module.map(str::to_owned));
        let call = method_call(method, payload, limit_secs);
        Task::begin(self.runtime, async move {
            let limit = Duration::from_secs(limit_secs) + CALL_MARGIN;
            match invoke(&https, &device, module.as_deref(), call, limit).await {
                Ok((status, payload)) => (Some(status), payload),
                Err(reason) => (None, reason),
            }
        })
    }

    /// The next event as a tuple, None after the last one, or "limit" when `limit_secs` are over.
    #[pyo3(signature = (limit_secs=None))]
    fn next_event(&self, py: Python<'_>, limit_secs: Option<f64>) -> PyResult<Option<Py<PyAny>>> {
        let mut abandoned = self.abandoned.subscribe();
        let limit = limit_secs.map(|secs| Duration::from_secs_f64(secs.clamp(0.0, 1e9)));
        let next = async {
            let mut inlet = self.inlet.lock().await;
            tokio::select! {
                biased;
                _ = abandoned.wait_for(|abandoned| *abandoned) => Some(Event::End),
                slot = inlet.recv() => Some(slot.map_or(Event::End, |slot| slot.event)),
                () = sleep(limit) => None,
            }
        };
        match rest(py, next)? {
            None => Ok(Some(LIMIT.into_pyobject(py)?.unbind().into_any())),
            Some(Event::End) => Ok(None),
            Some(event) => tuple(py, event).map(Some),
        }
    }

    /// Gives what is queued `linger_secs`, then ends; the last event follows.
    fn close(&self, linger_secs: f64) {
        // Without its task, the client has been abandoned.
        let _ = self.work.send(Work::Close(Duration::from_secs_f64(linger_secs.clamp(0.0, 60.0))));
    }

    /// Ends at once and says nothing more.
    fn abandon(&self) {
        self.abandoned.send_replace(true);
        let client = self.client.clone();
        self.runtime.spawn(async move { client.close(Duration::ZERO).await });
    }
}

impl DeviceClient {
    fn wait_for(&self, outcome: impl Future<Output = Event> + Send + 'static) {
        let _ = self.work.send(Work::Outcome(Box::pin(outcome)));
    }

    fn watch_twin(&self) {
        let (mut updates, outlet) = (self.client.desired(), self.outlet.clone());
        self.runtime.spawn(async move {
            while let Some(update) = updates.next().await {
                let whole = matches!(update, DesiredUpdate::Whole(_));
                outlet.tell_in_turn(Event::Twin { whole, text: update.as_json().to_owned() }).await;
            }
        });
    }

    fn read_twin(&self) {
        let (client, outlet) = (self.client.clone(), self.outlet.clone());
        self.runtime.spawn(async move {
            if let Ok(text) = client.twin_json().await {
                outlet.tell_in_turn(Event::Twin { whole: true, text }).await;
            }
        });
    }

    fn watch_methods(&self) {
        let outlet = self.outlet.clone();
        let (calls, next_call) = (Arc::clone(&self.calls), Arc::clone(&self.next_call));
        self.client.on_any_method(move |call| {
            let (outlet, calls) = (outlet.clone(), Arc::clone(&calls));
            let id = next_call.fetch_add(1, Ordering::Relaxed);
            async move {
                let (answer, answered) = oneshot::channel();
                calls.lock().unwrap_or_else(PoisonError::into_inner).insert(id, answer);
                outlet.tell_in_turn(Event::Method { call: id, name: call.name, payload: call.payload }).await;
                let outcome = tokio::time::timeout(CALL_LIFETIME, answered).await;
                calls.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                outcome.ok().and_then(Result::ok).flatten()
            }
        });
    }
}

/// Tells the outcome of all that was queued, in the order in which it became known, and the end after the last.
async fn look_after(client: Client, mut work: mpsc::UnboundedReceiver<Work>, outlet: Outlet) {
    let mut outcomes = FuturesUnordered::new();
    let linger = loop {
        tokio::select! {
            Some(event) = outcomes.next(), if !outcomes.is_empty() => outlet.tell(event),
            next = work.recv() => match next {
                Some(Work::Outcome(outcome)) => outcomes.push(outcome),
                Some(Work::Close(linger)) => break linger,
                None => return,
            },
        }
    };
    let rest = async {
        while let Some(event) = outcomes.next().await {
            outlet.tell(event);
        }
    };
    tokio::join!(client.close(linger), rest);
    outlet.tell(Event::End);
}

async fn sleep(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

fn tuple(py: Python<'_>, event: Event) -> PyResult<Py<PyAny>> {
    let made = match event {
        Event::Sent { token, outcome } => ("sent", token, outcome).into_pyobject(py)?.into_any(),
        Event::Reported { token, status } => ("reported", token, status).into_pyobject(py)?.into_any(),
        Event::Status { connected, reason } => ("status", connected, reason).into_pyobject(py)?.into_any(),
        Event::Twin { whole, text } => ("twin", whole, text).into_pyobject(py)?.into_any(),
        Event::Method { call, name, payload } => {
            ("method", call, name, payload).into_pyobject(py)?.into_any()
        }
        Event::Message(message) => {
            let system = system_properties(py, &message)?;
            let body = PyBytes::new(py, &message.body);
            ("message", body, message.properties, system).into_pyobject(py)?.into_any()
        }
        Event::End => py.None().into_bound(py),
    };
    Ok(made.unbind())
}

fn system_properties<'py>(py: Python<'py>, message: &ReceivedMessage) -> PyResult<Bound<'py, PyDict>> {
    let system = PyDict::new(py);
    let source = message.source.as_deref().map(|source| source.split_once('/').unwrap_or((source, "")));
    let (device, module) = source.unzip();
    for (name, value) in [
        ("message_id", message.message_id.as_deref()),
        ("correlation_id", message.correlation_id.as_deref()),
        ("content_type", message.content_type.as_deref()),
        ("content_encoding", message.content_encoding.as_deref()),
        ("input_name", message.input.as_deref()),
        ("connection_device_id", device),
        ("connection_module_id", module.filter(|module| !module.is_empty())),
    ] {
        if let Some(value) = value {
            system.set_item(name, value)?;
        }
    }
    Ok(system)
}

fn value_error(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// Something that goes on by itself and is waited for on a thread of its own.
#[pyclass(frozen, module = "ostler_iothub._native")]
pub(crate) struct Task(Mutex<Option<oneshot::Receiver<Outcome>>>);

/// A number, if all went well, and text.
type Outcome = (Option<i64>, String);

impl Task {
    fn begin(runtime: &Runtime, work: impl Future<Output = Outcome> + Send + 'static) -> Self {
        let (done, outcome) = oneshot::channel();
        runtime.spawn(async move {
            // Nobody waits any more when the process ends.
            let _ = done.send(work.await);
        });
        Self(Mutex::new(Some(outcome)))
    }
}

#[pymethods]
impl Task {
    /// Waits for the outcome, which is handed out once: a number or None, and a text.
    fn wait(&self, py: Python<'_>) -> PyResult<Outcome> {
        let outcome = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let outcome = outcome.ok_or_else(|| PyRuntimeError::new_err("the outcome has been taken"))?;
        rest(py, outcome)?.map_err(|_| PyRuntimeError::new_err("the task is gone"))
    }
}

/// Why this is no connection string for a device, or None.
#[pyfunction]
pub(crate) fn connection_string_problem(text: &str) -> Option<String> {
    text.parse::<ConnectionString>().err().map(|error| error.to_string())
}
