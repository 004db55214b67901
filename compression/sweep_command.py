"""The subcommand ``sweep``: many students out of one recipe, and what is worth having of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pocketface.compression.commands import Data, Out, Quiet, SkipBad
from pocketface.compression.logs import log_to
from pocketface.sdk.errors import GateFailedError
from pocketface.sdk.options import example
from pocketface.sdk.terminal import console


@example("pocketface sweep compression/recipes/sweeps/face68.yaml --data 300w --out runs/sweep68")
def sweep(
    sweep: Annotated[
        Path, typer.Argument(help="Sweep, e.g. compression/recipes/sweeps/face68.yaml.", show_default=False)
    ],
    data: Data,
    out: Out,
    jobs: Annotated[int, typer.Option(help="Students trained side by side.", min=1)] = 1,
    threads: Annotated[int, typer.Option(help="Threads of each training (0: all cores).", min=0)] = 0,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
) -> None:
    """Train and compress many students of one recipe, time all of them together, and keep what nothing beats.

    Resumes; students share what they have in common, such as teachers."""
    import torch

    from pocketface.compression.pipeline.sweep import FRONT, REPORT, run_sweep
    from pocketface.compression.sweep_recipe import load_sweep

    found = load_sweep(sweep)
    if threads:
        torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    log_to(out / "log.txt")
    figures = run_sweep(found, data, out, jobs=jobs, threads=threads, skip_bad=skip_bad, progress=not quiet)
    front = [variant for variant in figures.variants if variant.latency and not variant.beaten_by]
    for variant in sorted(front, key=lambda variant: variant.validation.nme):
        ms = variant.ms(figures.threads) or 0.0
        console().print(f"{variant.name}: NME {variant.accuracy.nme:.3f} %, {ms:.2f} ms, {variant.bytes / 1e6:.2f} MB")
    console().print(f"default {figures.chosen}\nbundle {out / 'bundle'}\nreport {out / REPORT}\nfront {out / FRONT}")
    failed = [f"{student.name}: {student.failed}" for student in figures.students if student.failed]
    if failed:
        raise GateFailedError("; ".join(failed), next="The rest is written; loosen the gates, or drop these students")
