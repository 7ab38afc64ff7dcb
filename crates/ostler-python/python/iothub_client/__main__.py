"""`python -m iothub_client doctor`: looks at everything between a program and its hub, and says what to do."""

import sys

from . import _doctor

_USAGE = """\
usage: python -m iothub_client doctor [CONNECTION_STRING]

Looks at what the package needs: its native half, Python, the certificate authorities of the environment, and with a
connection string (here, or in IOTHUB_DEVICE_CONNECTION_STRING) the way to the hub, up to signing in. Exits with 1 if anything
is wrong. Keys are never shown."""


def main(arguments):
    """Runs the doctor; returns the exit code."""
    if arguments in (["-h"], ["--help"], ["doctor", "-h"], ["doctor", "--help"]):
        print(_USAGE)
        return 0
    if not arguments or arguments[0] != "doctor" or len(arguments) > 2:
        print(_USAGE, file=sys.stderr)
        return 2
    return _doctor.run(arguments[1] if len(arguments) == 2 else None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
