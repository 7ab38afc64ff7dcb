from . import iothub_client as iothub_client
from .iothub_client import *
from .iothub_client import __version__ as __version__
