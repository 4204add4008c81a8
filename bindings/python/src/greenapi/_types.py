"""Types for type checkers; at run time imported only where a program asks for them."""

from typing import Literal

SessionPolicy = Literal["ignore", "require_logged_out", "log_out", "try_log_out"]
"""What to do about an instance whose phone is still logged in; see `Client`."""
