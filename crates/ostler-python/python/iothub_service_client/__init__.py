"""The retired package `azure-iothub-service-client`, alive again."""

from .iothub_service_client import *  # noqa: F401,F403
from .iothub_service_client import __doc__, __version__  # noqa: F401
