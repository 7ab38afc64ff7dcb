"""The life of one client behind its face: the native client, the worker thread that runs its callbacks, and what is
under way (revival §2.6, §7).

    program ──calls──▶ Session ──▶ native client (network, threads of its own)
       ▲                                   │ events
       └──callbacks── worker thread ◀──────┘

Must not know: how arguments are spelled and checked, which class the program sees.

Invariant: all callbacks of a client run on its worker, one at a time, in the order of events; uploads and calls of
other modules have a thread each, as they always had.
Invariant: the worker holds the session and never the client, so dropping the client's last reference ends both; a
client that is its own context is held by its callback and lives on.
Invariant: no lock is held while a callback runs.
Invariant: each message is confirmed exactly once, each report answered exactly once.
"""

import itertools
import os
import threading
import time

from ostler_iothub import _native, callbacks, lifetime

from ._connection import Malformed
from ._edge import TOKEN_LIFETIME
from ._enums import (
    IoTHubClientConfirmationResult,
    IoTHubClientConnectionStatusReason,
    IoTHubClientFileUploadResult,
    IoTHubClientResult,
    IoTHubClientStatus,
    IoTHubConnectionStatus,
    IoTHubMessageDispositionResult,
    IoTHubTransportProvider,
    IoTHubTwinUpdateState,
)
from ._messages import received, system_properties
from ._options import CONNECTING
from ._settings import settings_of
from ._values import DeviceMethodReturnValue, IoTHubMethodResponse

#: Seconds that a dropped client gives what it has not sent yet.
LINGER = 3.0
#: Seconds beyond those until a worker that is busy in a callback is left to itself.
GRACE = 1.5
#: Seconds that an upload under way gets at least when its client is dropped: the original waited for its end.
UPLOAD_LINGER = 30.0
#: Seconds until a token is asked for again that the edge runtime did not sign.
RENEWAL_RETRY = 30.0
#: Calls that wait for device_method_response.
MAX_CALLS = 1024
#: What a report is answered with when its client ends first.
DESTROYED = 408
#: With this variable set, a method that gets no answer is answered at once, with 501 or 500.
ANSWER_UNHANDLED = "OSTLER_ANSWER_UNHANDLED"

_CONFIRMATIONS = {
    "ok": IoTHubClientConfirmationResult.OK,
    "timeout": IoTHubClientConfirmationResult.MESSAGE_TIMEOUT,
    "closed": IoTHubClientConfirmationResult.BECAUSE_DESTROY,
    "error": IoTHubClientConfirmationResult.ERROR,
}
_tokens = itertools.count(1)
_running = set()
_running_lock = threading.Lock()


class _Send:
    """A message under way; `message` is a copy."""

    def __init__(self, message, output, timeout_ms, callback, context):
        self.message = message
        self.output = output
        self.deadline = time.monotonic() + timeout_ms / 1000.0 if timeout_ms > 0 else None
        self.callback = callback
        self.context = context

    def left_ms(self):
        """What is left of its time, at least one millisecond; None for ever."""
        if self.deadline is None:
            return None
        return max(1, int((self.deadline - time.monotonic()) * 1000))


class _Report:
    """A patch of reported properties under way."""

    def __init__(self, patch, callback, context):
        self.patch = patch
        self.callback = callback
        self.context = context


class Session:
    """One client's doings. It exists from the constructor on, and begins with the first call that needs it."""

    def __init__(self, target, provider):
        self.target = target
        self.provider = provider
        self.options = {}
        self.retry = None
        self.last_message_time = None
        #: Makes tokens for a module whose key only the edge runtime knows.
        self.signer = None
        self._callbacks = {}
        self._inputs = {}
        self._calls = {}
        self._sends = {}
        self._reports = {}
        self._side_threads = set()
        self._uploads = set()
        self._watched = set()
        self._lock = threading.RLock()
        self._native = None
        self._thread = None
        self._told_status = None
        self._closing = False

    # ------------------------------------------------------------ beginning

    @property
    def started(self):
        """Whether it has begun."""
        return self._thread is not None

    @property
    def polls(self):
        """Whether it was asked for as HTTP, which knows no twins, no methods and no connection status."""
        return self.provider is IoTHubTransportProvider.HTTP

    def start(self):
        """Begins: makes the native client and the worker, and connects in the background. False once it is closing."""
        with self._lock:
            if self._closing:
                return False
            if self._thread is None:
                self._native = self._make_native()
                name = "iothub_client " + self.target.device_id
                self._thread = threading.Thread(target=_work, args=(self,), name=name, daemon=True)
                with _running_lock:
                    _running.add(self)
                self._thread.start()
            return True

    def _make_native(self):
        native = _native.DeviceClient(self.target.text(), settings_of(self))
        native.start()
        return native

    def set_option(self, name, value):
        """Keeps an option. One that connections are made with lets all begin anew before the first connection. False
        if what there is by now cannot work: a certificate without its key, for example, which may be the next option.
        """
        with self._lock:
            self.options[name] = value
            if name in ("logtrace", "rawlogtrace"):
                _native.trace(bool(value))
            if name not in CONNECTING or self._thread is None or self._closing or self._native.has_connected():
                return True
            try:
                old, self._native = self._native, self._make_native()
            except ValueError as reason:
                _log("the option {} has no effect so far: {}".format(name, reason))
                return False
            old.abandon()
            for what in self._watched:
                self._native.watch(what)
            for token, send in self._sends.items():
                self._hand_over_send(token, send)
            for token, report in self._reports.items():
                self._native.report(token, report.patch)
            return True

    # ------------------------------------------------------------ what programs ask for

    def send(self, message, output, timeout_ms, callback, context):
        """Queues a message, of which the session is the only owner."""
        token, send = next(_tokens), _Send(message, output, timeout_ms, callback, context)
        with self._lock:
            self._sends[token] = send
            self._hand_over_send(token, send)

    def _hand_over_send(self, token, send):
        message = send.message
        self._native.send(
            token,
            message._body,
            list(message._properties.get_internals().items()),
            _wire_names(message),
            send.output,
            send.left_ms(),
        )

    def report(self, patch, callback, context):
        """Queues a patch (bytes)."""
        token = next(_tokens)
        with self._lock:
            self._reports[token] = _Report(patch, callback, context)
            self._native.report(token, patch)

    def register(self, what, callback, context):
        """Replaces a callback. `what` is messages, inputs, twin, methods, methods_ex or status."""
        with self._lock:
            self._callbacks[what] = (callback, context)

    def listen(self, what, callback, context, input_name=None):
        """Registers a callback and subscribes to what it is for."""
        with self._lock:
            if input_name is None:
                self.register(what, callback, context)
            else:
                self._inputs[input_name] = (callback, context)
            subject = "methods" if what == "methods_ex" else what
            if subject == "methods":
                self._callbacks.pop("methods_ex" if what == "methods" else "methods", None)
            if subject == "inputs" and self.target.module_id is None:
                return  # A device has no inputs; the edge preview of 2017 let it ask.
            self._watched.add(subject)
            self._native.watch(subject)

    def answer(self, method_id, status, response):
        """Answers a call that was handed out with its id; False if there is none."""
        call = self._calls.pop(method_id, None)
        if call is None or self._native is None:
            return False
        self._native.answer(call, status, response)
        return True

    def set_retry(self, policy, limit_secs):
        """Changes how connections are tried again."""
        self.retry = (policy, limit_secs)
        if not self.polls:
            self._native.set_retry(policy.name, limit_secs)

    def status(self):
        """Whether anything is queued or unacknowledged."""
        native = self._native
        busy = native is not None and native.pending() > 0
        return IoTHubClientStatus.BUSY if busy else IoTHubClientStatus.IDLE

    def upload(self, name, content, callback, context):
        """Uploads on a thread of its own."""
        task = self._native.upload(name, content)
        self._wait_apart("upload", self._uploads, task, _upload_result, callback, context)

    def invoke(self, device_id, module_id, method, payload, timeout_secs, callback, context):
        """Calls a method of another device or module on a thread of its own."""
        task = self._native.invoke(device_id, module_id, method, payload, timeout_secs)
        self._wait_apart("invoke", self._side_threads, task, _method_response, callback, context)

    def _wait_apart(self, what, others, task, shape, callback, context):
        def run():
            try:
                _call(callback, shape(task.wait()), context)
            except RuntimeError:
                pass  # The process is ending.
            finally:
                others.discard(threading.current_thread())

        thread = threading.Thread(target=run, name="iothub_client " + what, daemon=True)
        others.add(thread)
        thread.start()

    # ------------------------------------------------------------ events, on the worker

    def renew(self):
        """Replaces a signed token. Returns the seconds until the next time."""
        try:
            self._native.replace_token(self.signer.token())
        except Malformed as reason:
            _notice("the token could not be renewed: {}".format(reason))
            return RENEWAL_RETRY
        return TOKEN_LIFETIME * 0.8

    def _handle(self, event):
        kind, *rest = event
        if self._closing and kind not in ("sent", "reported"):
            return
        getattr(self, "_on_" + kind)(*rest)

    def _on_sent(self, token, outcome):
        with self._lock:
            send = self._sends.pop(token, None)
        if send is not None:
            _call(send.callback, send.message, _CONFIRMATIONS[outcome], send.context)

    def _on_reported(self, token, status):
        with self._lock:
            report = self._reports.pop(token, None)
        if report is not None:
            _call(report.callback, DESTROYED if status is None else status, report.context)

    def _on_status(self, connected, reason):
        told = (
            IoTHubConnectionStatus.AUTHENTICATED if connected else IoTHubConnectionStatus.UNAUTHENTICATED,
            IoTHubClientConnectionStatusReason.names[reason],
        )
        registered = self._callbacks.get("status")
        if registered is None or self.polls or told == self._told_status:
            return
        self._told_status = told
        _call(registered[0], *told, registered[1])

    def _on_twin(self, whole, document):
        registered = self._callbacks.get("twin")
        if registered is not None:
            state = IoTHubTwinUpdateState.COMPLETE if whole else IoTHubTwinUpdateState.PARTIAL
            _call(registered[0], state, document, registered[1])

    def _on_message(self, body, properties, system):
        message = received(body, properties, system)
        self.last_message_time = int(time.time())
        registered = self._inputs.get(message.input_name) if message.input_name is not None else None
        registered = registered or self._callbacks.get("inputs" if message.input_name is not None else "messages")
        if registered is None:
            return
        failed, disposition = _call(registered[0], message, registered[1])
        if failed:
            return
        if not isinstance(disposition, int) or int(disposition) not in IoTHubMessageDispositionResult.values:
            _notice("the message callback returned {!r}, not an IoTHubMessageDispositionResult".format(disposition))

    def _on_method(self, call, name, payload):
        registered = self._callbacks.get("methods_ex")
        if registered is not None:
            method_id = next(_tokens)
            self._calls[method_id] = call
            if len(self._calls) > MAX_CALLS:
                # The oldest one, which its caller has given up long since.
                del self._calls[next(iter(self._calls))]
            _call(registered[0], name, payload, method_id, registered[1])
            return
        registered = self._callbacks.get("methods")
        if registered is None:
            return
        failed, answer = _call(registered[0], name, payload, registered[1])
        if isinstance(answer, DeviceMethodReturnValue) and answer.response:
            self._native.answer(call, answer.status, answer.response)
        elif os.environ.get(ANSWER_UNHANDLED):
            self._native.answer(call, 500 if failed else 501, "null")
        else:
            # No answer is the answer (revival §2.5): the invoker waits for its timeout.
            self._native.answer(call, None, "")

    # ------------------------------------------------------------ the end

    def close(self):
        """Ends the session: what is queued gets a little time, the rest is confirmed as destroyed."""
        if not self.begin_close():
            return
        try:
            self.join(time.monotonic() + LINGER + GRACE)
        except KeyboardInterrupt:
            self.abandon()

    def begin_close(self):
        """Asks for the end without waiting; False if there is nothing to wait for."""
        with self._lock:
            if self._closing or self._thread is None:
                self._closing = True
                return False
            self._closing = True
            self._native.close(LINGER)
        return True

    def abandon(self):
        """Lets the native client go without waiting for anything."""
        self._native.abandon()

    def join(self, deadline):
        """Waits for the worker and the threads beside it until the deadline, and for uploads somewhat longer."""
        self._join((self._thread, *self._side_threads), deadline)
        self._join(tuple(self._uploads), max(deadline, time.monotonic() + UPLOAD_LINGER))

    @staticmethod
    def _join(threads, deadline):
        # Whoever drops its client in a callback is one of them.
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def _settle(self):
        """Confirms what nobody else will."""
        with self._lock:
            sends, self._sends = self._sends, {}
            reports, self._reports = self._reports, {}
        for send in sends.values():
            _call(send.callback, send.message, IoTHubClientConfirmationResult.BECAUSE_DESTROY, send.context)
        for report in reports.values():
            _call(report.callback, DESTROYED, report.context)


def _work(session):
    """The worker thread."""
    renewal = None if session.signer is None else time.monotonic() + TOKEN_LIFETIME * 0.8
    try:
        while True:
            native = session._native
            limit = None if renewal is None else max(0.0, renewal - time.monotonic())
            event = native.next_event(limit)
            if event == "limit":
                renewal = time.monotonic() + session.renew()
            elif event is not None:
                session._handle(event)
                # What the event carried, a context for example, must not live until the next one.
                event = None
            elif session._native is native:
                break
        session._settle()
    except RuntimeError as error:
        if not _native.is_shutting_down():
            _notice("the worker of a client ended: {}".format(error))
    finally:
        with _running_lock:
            _running.discard(session)
        session._callbacks = {}
        session._inputs = {}


def _upload_result(outcome):
    status, reason = outcome
    if status is not None:
        return IoTHubClientFileUploadResult.OK
    _log("an upload failed: " + reason)
    return IoTHubClientFileUploadResult.ERROR


def _method_response(outcome):
    status, payload = outcome
    if status is None:
        _log("a method could not be called: " + payload)
        return IoTHubMethodResponse._make(result=int(IoTHubClientResult.ERROR), responseStatus=0, responsePayload="")
    return IoTHubMethodResponse._make(result=int(IoTHubClientResult.OK), responseStatus=status, responsePayload=payload)


def _wire_names(message):
    system = system_properties(message)
    if message._diagnostic is not None:
        system["diagnostic_id"] = message._diagnostic.get_diagnostic_id()
        system["diagnostic_time"] = message._diagnostic.get_diagnostic_time_utc()
    return system


def _call(callback, *arguments):
    """Runs a callback as the original did: its exception is printed, and life goes on. Returns (failed, result)."""
    try:
        return False, callback(*arguments)
    except SystemExit as leaving:
        callbacks.leave(leaving.code)
    except BaseException:
        callbacks.print_exception()
    return True, None


def _log(text):
    """Silent unless logging is asked for (revival §7)."""
    if os.environ.get("OSTLER_LOG"):
        _notice(text)


def _notice(text):
    callbacks.notice("iothub_client: " + text)


class _All:
    """Every running session, as one worker: at the end of the process all of them linger at the same time."""

    def begin_close(self):
        """Asks every session for its end; returns them."""
        with _running_lock:
            sessions = list(_running)
        for session in sessions:
            session.begin_close()
        return sessions

    def close(self, limit_secs):
        """Stops every session within the limit, or at once if Ctrl-C comes."""
        sessions = self.begin_close()
        deadline = time.monotonic() + limit_secs
        try:
            for session in sessions:
                session.join(deadline)
        except KeyboardInterrupt:
            for session in sessions:
                session.abandon()


lifetime.add(_All())
