"""Argument checks in Boost.Python's manner (revival §1.2): positional only, overloads tried from the last to the
first, and a TypeError subclass when none fits.

    @takes(text, integer)                      one signature
    @takes_any([text], [text, text])           overloads

A kind is a function that returns what the body gets, or raises `Mismatch`. The decorated function is called with the
converted arguments.
"""

import functools


class ArgumentError(TypeError):
    """No signature fits the arguments."""

    __module__ = "Boost.Python"


class Mismatch(TypeError):
    """The argument is not of the kind; programs see an ArgumentError instead."""


# ---------------------------------------------------------------- kinds


def text(value):
    """str, or bytes in UTF-8; never None, never a number. The body gets str."""
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise Mismatch from None
        return value
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise Mismatch from None
    raise Mismatch


def optional_text(value):
    """text, or None, which the body gets as it is."""
    return None if value is None else text(value)


def integer(value):
    """A C int: any int, a bool or an enum's value; never a float. The body gets a plain int."""
    return _bounded(value, -(2**31), 2**31 - 1)


def unsigned(value):
    """A C unsigned int."""
    return _bounded(value, 0, 2**32 - 1)


def long_integer(value):
    """A C int64_t."""
    return _bounded(value, -(2**63), 2**63 - 1)


def _bounded(value, lowest, highest):
    if not isinstance(value, int):
        raise Mismatch
    number = int(value)
    if not lowest <= number <= highest:
        raise OverflowError(f"{number} is not within {lowest} and {highest}")
    return number


def anything(value):
    """Any object."""
    return value


def a(cls):
    """An instance of a class; for an enum, one of its values and no plain int."""

    def kind(value):
        if not isinstance(value, cls):
            raise Mismatch
        return value

    kind.__name__ = cls.__name__
    return kind


# ---------------------------------------------------------------- signatures


def takes(*kinds):
    """One signature."""
    return takes_any(kinds)


def takes_any(*overloads):
    """Several signatures; the last one that fits is used."""

    def decorate(function):
        @functools.wraps(function)
        def checked(self, *args, **kwargs):
            if not kwargs:
                for kinds in reversed(overloads):
                    values = _convert(kinds, args)
                    if values is not None:
                        return function(self, *values)
            raise ArgumentError(_explain(function, self, args, kwargs, overloads))

        return checked

    return decorate


def _convert(kinds, args):
    if len(kinds) != len(args):
        return None
    try:
        return [kind(value) for kind, value in zip(kinds, args)]
    except Mismatch:
        return None


def _explain(function, self, args, kwargs, overloads):
    given = [type(self).__name__, *(type(value).__name__ for value in args), *(f"{name}=" for name in kwargs)]
    wanted = [f"    ({', '.join(['self', *(kind.__name__ for kind in kinds)])})" for kinds in overloads]
    return "\n".join(
        [
            "Python argument types in",
            f"    {function.__qualname__}({', '.join(given)})",
            "did not match C++ signature:",
            *wanted,
        ]
    )


def callback(value, name):
    """A callable; the plain TypeError of the retired packages otherwise."""
    if not callable(value):
        raise TypeError(f"{name} expected type callable")
    return value
