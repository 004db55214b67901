"""Every error a user can meet. Each says what was got, what was expected, the valid choices, and what to do next.

exit code 1: a gate failed.  2: bad input.  3: the environment (a missing extra, a full disk).  130: interrupted.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class PocketfaceError(Exception):
    """Base of all errors that are the user's to act on; anything else that escapes is a defect of ours.

    Args:
        what: what is wrong and where, e.g. ``"helen/1.pts: 67 points"``.
        expected: what would have been right.
        choices: the valid names, if there is a list of them.
        next: the action that mends it.
    """

    exit_code = 2

    def __init__(
        self, what: str, *, expected: str | None = None, choices: Iterable[str] | None = None, next: str | None = None
    ) -> None:
        self.what, self.expected, self.next = what, expected, next
        self.choices = tuple(choices) if choices is not None else None
        parts = [what + (f", expected {expected}" if expected else "")]
        if self.choices is not None:
            parts.append("Valid: " + (", ".join(self.choices) or "none"))
        if next:
            # A command stays as it is typed.
            parts.append(next if next.startswith("pocketface ") else next[0].upper() + next[1:])
        super().__init__(". ".join(part.rstrip(".") for part in parts) + ".")

    def __reduce__(self) -> tuple[Any, ...]:
        # Whole, so that it comes back from another process; its arguments are not those of ``__init__``.
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[PocketfaceError], arguments: tuple[Any, ...], state: dict[str, Any]) -> PocketfaceError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(state)
    return error


class BadInputError(PocketfaceError):
    """Something the user gave is not usable."""


class ImageError(BadInputError):
    """A file that should be an image is missing, empty, broken or too large."""


class AnnotationError(BadInputError):
    """An annotation file does not hold what its format and scheme ask for."""


class ConfigError(BadInputError):
    """A recipe or other configuration has an unknown key, a wrong type or a value out of range."""


class BundleError(BadInputError):
    """A bundle is incomplete, altered, of an unknown schema, or unsafe to open."""


class SignatureError(BundleError):
    """A bundle is not signed, or not as it is now, or not by whom it should be."""


class WeightsError(BadInputError):
    """A checkpoint does not fit the network it should be loaded into."""


class UnknownNameError(BadInputError):
    """A name is not in its registry."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, next: str | None = None) -> None:
        known = sorted(known)
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        super().__init__(f"unknown {kind} {name!r}{hint}", choices=known, next=next)


class GateFailedError(PocketfaceError):
    """A figure is beyond the bound that the recipe sets for it."""

    exit_code = 1


class EnvironmentProblemError(PocketfaceError):
    """The machine lacks something: an extra, disk space, permission."""

    exit_code = 3


class MissingExtraError(EnvironmentProblemError):
    """An optional dependency is not installed."""

    def __init__(self, feature: str, extra: str, cause: str = "") -> None:
        super().__init__(
            f"{feature} needs the extra {extra!r}" + (f" ({cause})" if cause else ""),
            next=f"Install it: pip install 'pocketface[{extra}]'",
        )
