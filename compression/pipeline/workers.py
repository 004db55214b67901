"""Runs side by side, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace

from pocketface.compression.logs import log_to
from pocketface.compression.pipeline.context import Context
from pocketface.compression.pipeline.run import prepare


def prepare_together(contexts: Sequence[Context], jobs: int, threads: int) -> None:
    """Train and export several recipes; whoever runs them afterwards finds the stages done.

    Args:
        contexts: the runs.
        jobs: so many at a time.
        threads: of each.

    Raises:
        PocketfaceError: the first one of a run; those that have begun end, no other begins.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=end_with_parent) as pool:
        futures = [pool.submit(_prepare, context, threads) for context in contexts]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def end_with_parent() -> None:
    """Let this process end when the one that started it is gone, however it went: nobody would be left to stop a
    training of hours."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _prepare(context: Context, threads: int) -> None:
    """One run, silently on the terminal: several bars would overwrite each other."""
    import torch

    torch.set_num_threads(threads)
    log_to(context.run / "log.txt")
    prepare(replace(context, progress=False))
