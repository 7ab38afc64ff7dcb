"""What `iothub_client` and `iothub_service_client` share: how their classes, enums, exceptions and argument checks
behave, which is how Boost.Python behaved, and the native module. Not for programs.

Invariant: the two packages never share a class that programs see; each makes its own from what is here."""

import warnings

from ostler_iothub import _native, lifetime  # noqa: F401  (imported for its exit hook)

# The version of this revival; the packages say the version of the last release they stand in for.
__version__ = "0.1.0"

# What field programs compare with or print: the last release of both packages.
RETIRED_VERSION = "1.4.6"


def warn_of_unusable_trust(stacklevel=3):
    """Says on stderr, once for each text, that the CA file of the environment has no effect.

    A constructor may not raise for it, and the failed handshake that follows says nothing of the reason.
    """
    problem = _native.trust_problem()
    if problem is not None:
        warnings.warn(problem, RuntimeWarning, stacklevel=stacklevel)
