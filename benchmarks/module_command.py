"""How ``python -m pocketface.benchmarks.NAME`` ends: as ``pocketface`` does."""

from __future__ import annotations

import sys
from collections.abc import Callable

from pocketface.sdk.errors import PocketfaceError


def ended(work: Callable[[], object]) -> int:
    """Do a command's work.

    Returns:
        Its exit code: 0, or that of an error of ours, which is one line on standard error.
    """
    try:
        work()
    except PocketfaceError as error:
        print(f"pocketface: {error}", file=sys.stderr)
        return error.exit_code
    return 0
