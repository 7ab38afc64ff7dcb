"""iothub_client for Python (Ostler)"""

from ostler_iothub import RETIRED_VERSION

__version__ = RETIRED_VERSION
