"""A plugin of pytest for Wine: starts a program again if Wine 8 could not.

About one start in 400 fails there with an error that CreateProcess does not have on Windows.
"""

import subprocess
import sys
from typing import Any

if sys.platform == "win32":
    ERROR_INTERNAL_ERROR = 1359
    create_process = subprocess._winapi.CreateProcess  # type: ignore[attr-defined]

    def start_again(*arguments: Any) -> Any:
        for _ in range(3):
            try:
                return create_process(*arguments)
            except OSError as refused:
                if refused.winerror != ERROR_INTERNAL_ERROR:
                    raise
                print(
                    "Wine could not start a program; it is started again",
                    file=sys.stderr,
                )
        return create_process(*arguments)

    subprocess._winapi.CreateProcess = start_again  # type: ignore[attr-defined]
