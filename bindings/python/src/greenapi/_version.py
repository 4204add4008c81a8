"""The version; written from the crate's ``Cargo.toml`` by every build, never by hand."""

__version__ = "0.2.0"
