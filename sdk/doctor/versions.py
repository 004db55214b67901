"""The versions this release was tested with, and how an installed one compares.

``tested_versions.json`` is made from pyproject.toml and constraints.txt by ``make constraints``: the packages that
pocketface itself asks for, each with the extras that bring it. Tools that only its developers need are not in it.
"""

from __future__ import annotations

import functools
import re
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files

import msgspec

_VERSION = re.compile(
    r"v?(?:(?P<epoch>\d+)!)?(?P<release>\d+(?:\.\d+)*)"
    r"(?:[-_.]?(?P<pre>a|b|c|rc|alpha|beta|pre|preview)[-_.]?(?P<pre_n>\d*))?"
    r"(?:-(?P<post_dash>\d+)|[-_.]?(?P<post>post|rev|r)[-_.]?(?P<post_n>\d*))?"
    r"(?:[-_.]?(?P<dev>dev)[-_.]?(?P<dev_n>\d*))?(?:\+[a-z0-9._-]+)?",
    re.IGNORECASE,
)
_PRE = {"alpha": "a", "beta": "b", "c": "rc", "pre": "rc", "preview": "rc"}
_AFTER_ALL = ("z", 0)

Order = tuple[int, tuple[int, ...], tuple[str, int], int, tuple[int, int]]
"""Epoch, release, pre-release, post-release, development release: compares as versions do."""


class TestedPackage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A package that pocketface asks for.

    Attributes:
        tested: the version this release was tested with.
        requires: what pocketface asks for, e.g. ``">=2.6,<3"``.
        extras: the extras that bring it; empty if it is always needed.
    """

    __test__ = False  # the name is not a test's

    tested: str
    requires: str
    extras: tuple[str, ...] = ()


class TestedSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What this release was tested with; ``python`` as pocketface asks for it."""

    __test__ = False

    python: str
    tested_python: str
    packages: dict[str, TestedPackage]


@functools.cache
def load_tested() -> TestedSet:
    """What ships with this release."""
    data = files("pocketface.sdk.doctor").joinpath("tested_versions.json").read_bytes()
    return msgspec.json.decode(data, type=TestedSet)


def normalised(name: str) -> str:
    """A package's name as indexes compare it: ``PyYAML`` -> ``pyyaml``, ``ai_edge_litert`` -> ``ai-edge-litert``."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(name: str) -> str | None:
    """Version of an installed distribution; None if it is not installed. Imports nothing of it."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def order(text: str) -> Order:
    """A key that sorts versions as PEP 440 does, local parts (``+cpu``) aside.

    Raises:
        ValueError: not a version.
    """
    match = _VERSION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a version")
    release = [int(part) for part in match["release"].split(".")]
    while len(release) > 1 and release[-1] == 0:
        release.pop()
    has_post = match["post"] is not None or match["post_dash"] is not None
    pre: tuple[str, int] = _AFTER_ALL
    if match["pre"] is not None:
        kind = match["pre"].lower()
        pre = (_PRE.get(kind, kind), int(match["pre_n"] or 0))
    elif match["dev"] is not None and not has_post:
        pre = ("", 0)  # 1.0.dev1 comes before 1.0a1
    post = int(match["post_dash"] or match["post_n"] or 0) if has_post else -1
    dev = (0, int(match["dev_n"] or 0)) if match["dev"] is not None else (1, 0)
    return (int(match["epoch"] or 0), tuple(release), pre, post, dev)


def compare(found: str, tested: str) -> str:
    """``"as tested"``, ``"newer"``, ``"older"``, or ``"other"`` where one of the two cannot be read."""
    try:
        left, right = order(found), order(tested)
    except ValueError:
        return "as tested" if found == tested else "other"
    if left == right:
        return "as tested"
    return "newer" if left > right else "older"


def satisfies(found: str, requires: str) -> bool:
    """Whether a version is within a requirement like ``">=2.6,<3"`` or ``"==0.10.*"``; an unreadable one counts as so.

    Knows the comparisons that pyproject.toml uses: ``>=  >  <=  <  ==  !=  ~=``.
    """
    try:
        return all(_within(found, part.strip()) for part in requires.split(",") if part.strip())
    except ValueError:
        return True


def _within(found: str, part: str) -> bool:
    match = re.fullmatch(r"(>=|<=|==|!=|~=|>|<)\s*(.+?)(\.\*)?", part)
    if match is None:
        raise ValueError(f"{part!r} is not a requirement")
    sign, bound, wildcard = match[1], match[2], bool(match[3])
    if wildcard:
        return _starts(found, bound) == (sign == "==")
    left, right = order(found), order(bound)
    if sign == "~=":
        return left >= right and _starts(found, bound.rpartition(".")[0])
    return bool(
        {
            ">=": left >= right,
            "<=": left <= right,
            ">": left > right,
            # A pre-release of the bound is what the bound keeps out: 3.0rc1 is not "<3".
            "<": left < right and not (_prerelease(found) and _starts(found, bound)),
            "==": left == right,
            "!=": left != right,
        }[sign]
    )


def _starts(found: str, prefix: str) -> bool:
    wanted, match = [int(part) for part in prefix.split(".")], _VERSION.fullmatch(found.strip())
    if match is None:
        raise ValueError(f"{found!r} is not a version")
    release = [int(part) for part in match["release"].split(".")]
    return not int(match["epoch"] or 0) and (release + [0] * len(wanted))[: len(wanted)] == wanted


def _prerelease(text: str) -> bool:
    match = _VERSION.fullmatch(text.strip())
    return match is not None and (match["pre"] is not None or match["dev"] is not None)


def extra_with(module: str) -> str | None:
    """The extra that brings a top-level module whose package is called like it; None if none is known to."""
    package = load_tested().packages.get(normalised(module))
    return package.extras[0] if package is not None and package.extras else None


def back_to_tested(extra: str) -> str:
    """The command that brings an environment in which something of an extra fails back to what was tested."""
    packages = load_tested().packages
    present = {name: found for name in packages if (found := installed(name)) is not None}
    other = [name for name, found in present.items() if compare(found, packages[name].tested) != "as tested"]
    other += [name for name, package in packages.items() if not package.extras and name not in present]
    if other:
        return "pip install " + " ".join(f"{name}=={packages[name].tested}" for name in other)
    return f"pip install --force-reinstall --no-cache-dir 'pocketface{f'[{extra}]' if extra else ''}'"
