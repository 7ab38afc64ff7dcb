"""Exceptions and the objects in their `args` (revival §1.4).

An exception raised by the library carries exactly one argument, an instance of `<Exception>Arg`, and its text is that
argument's text: `<Class>.<function>, <Enum>.<MEMBER>`. Programs may raise the classes with whatever they like.
"""

import re

from ostler_iothub.arguments import Mismatch, takes, text
from ostler_iothub.enums import Enum
from ostler_iothub.objects import Native


def result(value):
    """An enum's value, or a word where there never was an enum."""
    if not isinstance(value, (Enum, str)):
        raise Mismatch
    return value


def snake_case(function):
    """`SendEventAsync` is told as `send_event_async`; the name of a class is its constructor and stays."""
    if function.startswith("IoTHub"):
        return function
    return re.sub(r"(?<=.)([A-Z])", r"_\1", function).lower()


class ErrorArg(Native):
    """What a raised exception has in `args[0]`.

    `func` is the function as C++ spelled it, `result` the enum's value. Two attributes are new: `http_status`, the
    status the hub refused with, and `reason`, what it said, for people; None where there is none.
    """

    # Of each subclass: the exception's name, the class word of its text, and the enum's name.
    exception = ""
    owner = ""
    enum_name = ""
    # Members whose text is not their name.
    respelled = {}

    @takes(text, result)
    def __init__(self, func, result):
        self._func = func
        self._result = result
        self.http_status = None
        self.reason = None

    @property
    def func(self):
        return self._func

    @property
    def result(self):
        return self._result

    def __str__(self):
        word = str(self._result)
        return f"{self.owner}.{snake_case(self._func)}, {self.enum_name}.{self.respelled.get(word, word)}"

    def __repr__(self):
        return f"{self.exception}({self})"


def error(name, base, module, doc=None):
    """Makes an exception class."""
    return type(name, (base,), {"__module__": module, "__doc__": doc})


def error_arg(exception, owner, enum_name, respelled=None):
    """Makes the companion class of an exception class."""
    members = {
        "__module__": exception.__module__,
        "__doc__": f"What a raised {exception.__name__} carries.",
        "exception": exception.__name__,
        "owner": owner,
        "enum_name": enum_name,
        "respelled": respelled or {},
    }
    return type(exception.__name__ + "Arg", (ErrorArg,), members)
