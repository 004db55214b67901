"""Where a run writes down what it does."""

from __future__ import annotations

import logging
from pathlib import Path


def log_to(path: Path) -> None:
    """Everything we and Lightning log goes to a file; of ours, warnings go to the terminal too."""
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    shown = logging.StreamHandler()
    shown.setLevel(logging.WARNING)
    shown.setFormatter(logging.Formatter("pocketface: %(message)s"))
    wanted: dict[str, list[logging.Handler]] = {"pocketface": [file, shown], "lightning.pytorch": [file]}
    for name, handlers in wanted.items():
        logger = logging.getLogger(name)
        # Some converters give the root logger a handler of their own, which would print every line once more.
        logger.handlers, logger.propagate = handlers, False
        logger.setLevel(logging.INFO)
