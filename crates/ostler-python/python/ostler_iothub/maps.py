"""`IoTHubMap` (revival §2.4), of which each package makes its own class.

Invariant: keys and values are text.
"""

from ostler_iothub.arguments import anything, takes, takes_any, text
from ostler_iothub.objects import Native


class MapBase(Native):
    """Properties in the order in which they were added. It has no length, no items and no iteration, as ever."""

    # Of each subclass: the exception, its argument's class, and the enum of results.
    _error = None
    _error_arg = None
    _results = None

    @takes_any([], [anything])
    def __init__(self, *filter_function):
        self._items = {}
        self._filter = None
        for function in filter_function:
            if not callable(function):
                raise TypeError("expected type callable")
            self._filter = function

    @classmethod
    def _printable(cls, items=()):
        """A message's map: it refuses what is not printable ASCII."""
        made = cls()
        made._filter = cls._refuse_unprintable
        made._items.update(items)
        return made

    @classmethod
    def _refuse_unprintable(cls, key, value):
        if all(" " <= character <= "~" for character in key + value):
            return cls._results.OK
        return cls._results.FILTER_REJECT

    def _fail(self, function, result):
        raise self._error(self._error_arg(function, result))

    def _admit(self, function, key, value):
        if self._filter is not None and int(self._filter(key, value)) != 0:
            self._fail(function, self._results.FILTER_REJECT)

    @takes(text, text)
    def add(self, key, value):
        if key in self._items:
            self._fail("Add", self._results.KEYEXISTS)
        self._admit("Add", key, value)
        self._items[key] = value

    @takes(text, text)
    def add_or_update(self, key, value):
        self._admit("AddOrUpdate", key, value)
        self._items[key] = value

    @takes(text)
    def delete(self, key):
        if self._items.pop(key, None) is None:
            self._fail("Delete", self._results.KEYNOTFOUND)

    @takes(text)
    def contains_key(self, key):
        return key in self._items

    @takes(text)
    def contains_value(self, value):
        return value in self._items.values()

    @takes(text)
    def get_value_from_key(self, key):
        if key not in self._items:
            self._fail("GetValueFromKey", self._results.KEYNOTFOUND)
        return self._items[key]

    @takes()
    def get_internals(self):
        """A new dict each time; changing it changes nothing else."""
        return dict(self._items)
