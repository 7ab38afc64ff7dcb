"""Enums as Boost.Python made them (revival §1.3): subclasses of `int` whose members are singletons.

Python's own `IntEnum` will not do: what `str` and `format` make of its members changed between versions, and it
refuses numbers without a name.
"""


class Enum(int):
    """The base of every enum; `enum` makes the subclasses."""

    __slots__ = ()

    # name -> member and number -> member, replaced in each subclass.
    names = {}
    values = {}

    def __new__(cls, value=0):
        number = int(value)
        member = cls.values.get(number)
        return int.__new__(cls, number) if member is None else member

    @property
    def name(self):
        """The name of a member; a number without one has none."""
        name = self._name()
        if name is None:
            raise AttributeError("name")
        return name

    def _name(self):
        for name, member in type(self).names.items():
            if int.__eq__(member, self):
                return name
        return None

    def __str__(self):
        name = self._name()
        return int.__repr__(self) if name is None else name

    def __repr__(self):
        cls, name = type(self), self._name()
        path = f"{cls.__module__}.{cls.__qualname__}"
        return f"{path}({int(self)})" if name is None else f"{path}.{name}"

    def __format__(self, spec):
        return str(self) if not spec else int.__format__(self, spec)

    def __reduce_ex__(self, protocol):
        return type(self), (int(self),)


def enum(name, module, *members):
    """Makes the enum `name` of `module`, with the members numbered from 0 in the order given."""
    made = type(name, (Enum,), {"__module__": module, "__slots__": (), "names": {}, "values": {}})
    for number, member_name in enumerate(members):
        member = int.__new__(made, number)
        made.names[member_name] = member
        made.values[number] = member
        setattr(made, member_name, member)
    return made
