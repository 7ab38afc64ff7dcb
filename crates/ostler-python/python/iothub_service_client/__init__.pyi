from . import iothub_service_client as iothub_service_client
from .iothub_service_client import *
from .iothub_service_client import __version__ as __version__
