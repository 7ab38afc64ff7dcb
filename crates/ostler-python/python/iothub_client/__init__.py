"""The retired package `azure-iothub-device-client`, alive again."""

from .iothub_client import *  # noqa: F401,F403
from .iothub_client import __doc__, __version__  # noqa: F401
