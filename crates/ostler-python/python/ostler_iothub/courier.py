"""The worker behind `IoTHubMessaging` (revival §3.5, §7): one thread that sends, and asks for feedback.

Invariant: callbacks run on this thread, one at a time, with no lock held; they may call the messaging object.
Invariant: the worker never refers to the messaging object, so that dropping that one ends the worker.
Invariant: every message gets its callback once: with OK when the hub has it, with an error otherwise.
"""

import collections
import json
import threading
import time

from ostler_iothub import _native, callbacks, lifetime

# How long feedback may lie at the hub before it is asked for.
FEEDBACK_SECS = 1.0
# The same after the hub failed to answer.
FEEDBACK_AFTER_FAILURE_SECS = 5.0
# Messages that may wait to be sent.
MAX_WAITING = 100_000
# How long workers may take to notice that what they wait for was stopped.
_STOP_SECS = 2.0


class Courier:
    """Begins at once; ends with `close`."""

    def __init__(self, service):
        self._service = service
        self._changed = threading.Condition()
        self._waiting = collections.deque()
        self._feedback = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="IoTHubMessaging", daemon=True)
        lifetime.add(self)
        self._thread.start()

    def post(self, work):
        """Appends work, a function without arguments; False when there is no room, or no more after `close`."""
        with self._changed:
            if self._closing or len(self._waiting) >= MAX_WAITING:
                return False
            self._waiting.append(work)
            self._changed.notify()
            return True

    def set_feedback(self, deliver):
        """From now on `deliver(records)` is called with each batch."""
        with self._changed:
            self._feedback = deliver
            self._changed.notify()

    def begin_close(self):
        """Takes no more work; the thread ends after what waits."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def close(self, limit_secs=lifetime.FLUSH_SECS):
        """Sends what waits, for so long at most, and ends the thread. What is left fails, and its callbacks say so."""
        self.begin_close()
        # In a callback nobody waits; the end of the process does.
        if threading.current_thread() is self._thread:
            return
        self._thread.join(limit_secs)
        if self._thread.is_alive():
            self._service.stop()
            self._thread.join(_STOP_SECS)

    def _run(self):
        try:
            self._work()
        finally:
            lifetime.remove(self)

    def _work(self):
        due = 0.0
        while True:
            work, closing, deliver = self._next(due)
            if work is not None:
                callbacks.call(work)
            elif closing:
                return
            elif deliver is not None:
                due = time.monotonic() + self._fetch(deliver)

    def _next(self, due):
        """Waits for work, the end, or the time to ask for feedback."""
        with self._changed:
            while True:
                if self._waiting:
                    return self._waiting.popleft(), False, None
                if self._closing:
                    return None, True, None
                left = due - time.monotonic()
                if self._feedback is not None and left <= 0:
                    return None, False, self._feedback
                self._changed.wait(left if self._feedback is not None else None)

    def _fetch(self, deliver):
        """Asks once; returns when to ask again, in seconds. What was delivered is dealt with, whatever came of it."""
        try:
            batch = self._service.feedback()
            if batch is None:
                return FEEDBACK_SECS
            lock, records = batch
            callbacks.call(deliver, json.loads(records))
            self._service.complete_feedback(lock)
            return 0.0
        except (_native.Failure, RuntimeError, ValueError):
            return FEEDBACK_AFTER_FAILURE_SECS
