"""What runs a file to prove it: the runtime that an app would use, or a reference where that one is not here."""

from pocketface.converters.executors.registry import executor_of

__all__ = ["executor_of"]
