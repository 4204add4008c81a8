"""Names for PyInstaller what it cannot see: the shared library, and modules imported by name."""

import os


def hook_dirs() -> list[str]:
    """Where the hooks are; PyInstaller asks by the entry point ``pyinstaller40``."""
    return [os.path.dirname(__file__)]
