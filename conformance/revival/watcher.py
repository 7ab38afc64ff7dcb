"""Callbacks that keep what they were called with, and waiting for them."""

import queue
import threading

PATIENCE = 30.0


class Calls:
    """A callback of any shape. Each call is kept with the thread it came on; `answer` makes what it returns."""

    def __init__(self, answer=None):
        self._calls = queue.Queue()
        self._answer = answer
        self.threads = set()
        self.count = 0

    def __call__(self, *arguments):
        self.threads.add(threading.current_thread())
        self.count += 1
        self._calls.put(arguments)
        return self._answer(*arguments) if self._answer else None

    def next(self, timeout=PATIENCE):
        """The next call's arguments; fails if none comes."""
        try:
            return self._calls.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"no further call came within {timeout} s, after {self.count}") from None

    def none_waits(self):
        return self._calls.empty()
