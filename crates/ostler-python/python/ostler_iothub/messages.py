"""What the messages of both packages have in common (revival §2.3).

Invariant: the body is bytes; how it was given decides only which getter hands it out.
"""

from ostler_iothub.arguments import anything, optional_text, takes
from ostler_iothub.objects import Native


class MessageBase(Native):
    """A body with properties. The subclass names its map, its enums and its exception."""

    _map = None
    _content = None
    _results = None
    _error = None
    _error_arg = None

    @takes(anything)
    def __init__(self, source):
        if isinstance(source, bytearray):
            self._body, self._kind = bytes(source), self._content.BYTEARRAY
        elif isinstance(source, str):
            # C read text up to its first NUL; bytes keep theirs.
            self._body = source.encode("utf-8").split(b"\0", 1)[0]
            self._kind = self._content.STRING
        elif isinstance(source, bytes):
            self._body, self._kind = source, self._content.STRING
        else:
            raise TypeError("expected type bytearray")
        self._message_id = None
        self._correlation_id = None
        self._properties = self._map._printable()

    @takes()
    def get_bytearray(self):
        if self._kind is not self._content.BYTEARRAY:
            raise self._error(self._error_arg("GetBytearray", self._results.INVALID_ARG))
        return bytearray(self._body)

    @takes()
    def get_string(self):
        """The text, or None for a message of bytes, as every received one is."""
        return self._body.decode("utf-8") if self._kind is self._content.STRING else None

    @takes()
    def get_content_type(self):
        return self._kind

    @takes()
    def properties(self):
        """The application properties, live."""
        return self._properties

    @property
    def message_id(self):
        return self._message_id

    @message_id.setter
    def message_id(self, value):
        self._set_message_id(value)

    @takes(optional_text)
    def _set_message_id(self, value):
        self._message_id = value

    @property
    def correlation_id(self):
        return self._correlation_id

    @correlation_id.setter
    def correlation_id(self, value):
        self._set_correlation_id(value)

    @takes(optional_text)
    def _set_correlation_id(self, value):
        self._correlation_id = value
