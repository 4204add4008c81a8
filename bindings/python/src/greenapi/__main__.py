"""``python -m greenapi``."""

import sys

from ._cli import main

sys.exit(main())
