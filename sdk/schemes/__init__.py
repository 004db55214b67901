"""Landmark schemes: `load_scheme` by name or path, `SCHEMES` the built-in names, `check_scheme`."""

from pocketface.sdk.schemes.registry import SCHEMES, check_scheme, load_scheme

__all__ = ["SCHEMES", "check_scheme", "load_scheme"]
