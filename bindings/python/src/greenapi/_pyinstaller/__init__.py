"""Tells PyInstaller what it cannot see: the shared library, and what is imported by name."""

import os


def hook_dirs() -> list[str]:
    """Where the hooks are; PyInstaller asks by the entry point ``pyinstaller40``."""
    return [os.path.dirname(__file__)]
