"""PyInstaller's hook for greenapi."""

import os

from greenapi import _LATER, _abi

# `_trio` comes along where the program itself imports trio.
hiddenimports = sorted({f"greenapi.{module}" for module in _LATER.values()})

# Into the package, where `_abi` looks for the library first.
_library = _abi._library._name
binaries = [(_library, "greenapi")] if os.path.exists(_library) else []
