"""The bases of all classes programs see (revival §1.2).

Invariant: instances bear further attributes, weak references and subclasses, and cannot be pickled.
"""

from typing import Tuple


class Native:
    """An object that stood for one of C++."""

    def __reduce_ex__(self, protocol):
        name = f"{type(self).__module__}.{type(self).__qualname__}"
        raise RuntimeError(f'Pickling of "{name}" instances is not enabled')


class Result(Native):
    """An object that only the library makes; its attributes are read-only.

    A subclass names its attributes in `FIELDS`. The library makes one with `Subclass._make(field=value, ...)`.
    """

    FIELDS: Tuple[str, ...] = ()

    def __init__(self, *args, **kwargs):
        raise RuntimeError("This class cannot be instantiated from Python")

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        for field in cls.__dict__.get("FIELDS", ()):
            setattr(cls, field, _reader(field))

    @classmethod
    def _make(cls, **fields):
        made = cls.__new__(cls)
        for field in cls.FIELDS:
            made.__dict__["_" + field] = fields.pop(field, None)
        if fields:
            raise TypeError(f"{cls.__name__} has no {', '.join(fields)}")
        return made


def _reader(field):
    slot = "_" + field
    return property(lambda self: self.__dict__[slot])
