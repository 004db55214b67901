"""What a runtime may hand a network to: ``auto`` is what it takes when nothing is said; any other name is that one or
an error, never something else in its place.
"""

from __future__ import annotations

from collections.abc import Iterable

from pocketface.sdk.errors import BadInputError, EnvironmentProblemError

AUTO = "auto"


def checked_delegate(delegate: str, choices: Iterable[str], runtime: str) -> str:
    """A delegate's name, if it is ``auto`` or one of those there are.

    Args:
        delegate: as given.
        choices: names besides ``auto`` that this runtime has on this machine.
        runtime: what the error calls it.

    Raises:
        BadInputError: not a text.
        EnvironmentProblemError: there is no such delegate here.
    """
    if not isinstance(delegate, str):
        raise BadInputError(f"delegate {delegate!r}", expected="a name, for example 'auto'")
    valid = [AUTO, *choices]
    if delegate not in valid:
        raise EnvironmentProblemError(
            f"{runtime} has no delegate {delegate!r} on this machine",
            choices=valid,
            next="Choose one of these, or a variant of another format",
        )
    return delegate
