"""The pages that are generated from a run's stored figures, by what kind of figures they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pocketface.benchmarks.papers import masks, masks_page, rule, rule_page, runtime, runtime_page, sweep, sweep_page
from pocketface.benchmarks.papers.common import RESULTS


@dataclass(frozen=True)
class Paper:
    """How the figures of one kind of run become a page.

    Attributes:
        read: a results file -> figures; its errors say what is wrong with the file.
        write: figures, path of the page -> the page, and its figures beside it.
    """

    read: Callable[[Path], Any]
    write: Callable[[Any, Path], None]


PAPERS = {
    rule.KIND: Paper(rule.read, rule_page.write),
    masks.KIND: Paper(masks.read, masks_page.write),
    runtime.KIND: Paper(runtime.read, runtime_page.write),
    sweep.KIND: Paper(sweep.read, sweep_page.write),
}


def figures_file(run: Path) -> Path:
    """The results file of a run's folder; a results page's ``.json`` is one itself."""
    return run if run.suffix == ".json" else run / RESULTS


def paper_of(run: Path) -> Paper | None:
    """The paper of a run's folder or results page; None where its figures are of no kind, or cannot be read here."""
    try:
        found = msgspec.json.decode(figures_file(run).read_bytes())
    except (OSError, msgspec.DecodeError):
        return None  # whoever reads it says what is wrong
    return PAPERS.get(found.get("kind", "")) if isinstance(found, dict) else None
