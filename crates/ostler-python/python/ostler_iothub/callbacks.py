"""Calling a program's callbacks, as the interpreter's C interface did (revival §2.5).

Invariant: an exception of a callback ends here, with its traceback on stderr; `sys.exit` in a callback ends the process.
Invariant: nothing here raises, not even when nobody reads stderr any more: a worker must outlive that.
"""

import os
import sys
import traceback


def call(function, *args):
    """Calls `function`; returns what it returned, or None after an exception."""
    try:
        return function(*args)
    except SystemExit as leaving:
        leave(leaving.code)
    except BaseException:
        print_exception()
    return None


def print_exception():
    """The traceback of the exception at hand, on stderr if it takes it."""
    try:
        traceback.print_exc()
    except (AttributeError, OSError, ValueError):
        pass


def notice(text):
    """A line on stderr, if there is one and it takes it."""
    try:
        if sys.stderr is not None:
            print(text, file=sys.stderr)
    except (AttributeError, OSError, ValueError):
        pass


def leave(code):
    """Ends the process from whatever thread this is. Exit hooks cannot run: they wait for this very thread."""
    if code is not None and not isinstance(code, int):
        notice(code)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass
    os._exit((code or 0) & 0xFF)
