"""The program ``greenapi``, also as ``python -m greenapi``."""

import signal
import sys

# Until the command has handlers of its own, Ctrl-C ends the process as the other signals do: during
# the import below Python's handler would print a traceback. One that is ignored stays ignored.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from ._cli import main

if __name__ == "__main__":
    sys.exit(main())
