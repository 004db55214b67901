"""A search over files: each is measured on validation faces, and what was measured is kept, so that a search that was
killed goes on where it was.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from pocketface.compression.pipeline.subject import Subject
from pocketface.converters.formats.base import Exported
from pocketface.converters.parity import References, measure
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.files import write_atomic


class Trials(dict[str, float]):
    """What was tried -> the task error's increase over torch, percentage points.

    Args:
        path: of the file; what it holds is known.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(msgspec.json.decode(path.read_bytes(), type=dict[str, float]) if path.exists() else {})

    def keep(self, what: str, increase: float) -> float:
        """Write a figure down, and give it back."""
        self[what] = increase
        write_atomic(self.path, msgspec.json.encode(self), force=True)
        return increase


def increase(item: Exported, faces: References, subject: Subject) -> float:
    """How much larger the task error of a file is than torch's, percentage points.

    Raises:
        BadInputError: there is no task error on these faces.
    """
    result = measure(item, faces=faces, normaliser=subject.normaliser)
    if result is None or result.nme_increase is None:
        raise BadInputError(f"{item.path.name}: no task error was measured", next="Give the run validation faces")
    return result.nme_increase
