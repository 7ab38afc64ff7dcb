"""What happens at the end of the process (revival §7).

Invariant: whatever was added here is closed first, all within one limit; then every native wait ends. A thread that
came out of a native wait after that would be ended by the interpreter in the middle of native frames.
"""

import atexit
import threading
import time

from ostler_iothub import _native

# All workers together get this long to send what waits.
FLUSH_SECS = 5.0
# Threads that wait in native code get this long to come back.
_SHUT_DOWN_SECS = 2.0

# The garbage collector may close a worker at any moment, on a thread that is within this lock too.
_lock = threading.RLock()
_live = set()


def add(worker):
    """`worker.begin_close()`, which waits for nothing, and then `worker.close(limit_secs)` are called at the end, unless
    `remove` comes first. Keeps `worker` alive."""
    with _lock:
        _live.add(worker)


def remove(worker):
    with _lock:
        _live.discard(worker)


@atexit.register
def _end():
    deadline = time.monotonic() + FLUSH_SECS
    with _lock:
        workers = list(_live)
    try:
        # All of them begin to end before the first is waited for.
        for worker in workers:
            worker.begin_close()
        for worker in workers:
            try:
                worker.close(max(0.0, deadline - time.monotonic()))
            except Exception:  # One worker's trouble must not keep the others from closing.
                pass
    finally:
        # Also when somebody presses Ctrl-C once more.
        _native.shut_down(_SHUT_DOWN_SECS)
