"""The figures of Table I that files have: size, milliseconds and what 8 bits cost, of each landmark network,
all interleaved in one run with the whole chain and with a MobileNetV2 at 224 pixels that everyone knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from pocketface.benchmarks.accuracy import evaluate
from pocketface.benchmarks.data.fingerprint import dataset_hash
from pocketface.benchmarks.machine import this_machine
from pocketface.benchmarks.papers.rule import FileRow, Speed
from pocketface.benchmarks.side_by_side import measure_together
from pocketface.compression.pipeline.chain.files import Alone
from pocketface.compression.pipeline.context import ChainContext
from pocketface.compression.pipeline.drafts import KNOWN, bundle_of, known_bundle
from pocketface.compression.recipe import ExportSpec
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.predictor import Predictor
from pocketface.sdk.progress import say

TABLE_VERSION = 1


def table_formats(spec: ExportSpec) -> dict[str, tuple[str, ...]]:
    """TFLite where the recipe has it, else its first format; fp32, and w8a8 where the recipe has that."""
    name = "tflite" if "tflite" in spec.formats else next(iter(spec.formats))
    return {name: tuple(precision for precision in ("fp32", "w8a8") if precision in spec.formats[name])}


def measure_networks(context: ChainContext, lone: Mapping[str, Alone], chain: Path, default: str) -> Speed:
    """Sizes, accuracy in 8 bits and milliseconds.

    Args:
        context: the run.
        lone: landmark networks by name.
        chain: a bundle of the whole chain.
        default: the id of the chain to time.
    """
    spec, faces = context.recipe.bench, context.split.test
    ((format, precisions),) = table_formats(context.recipe.export).items()
    files = {name: item.files.candidates[0].exported.path.parent.name for name, item in lone.items()}

    def make(folder: Path) -> Speed:
        with ExitStack() as stack:
            known = known_bundle(context, folder / "known", format)
            entries = {f"{KNOWN.name} {KNOWN.input_size}": (stack.enter_context(open_bundle(known)), f"fp32.{format}")}
            opened = stack.enter_context(open_bundle(chain))
            same = [f"{precision}.{format}" for precision in precisions]
            entries |= {f"chain {id}": (opened, id) for id in same if id in opened.manifest.chains}
            rows = {}
            for name, item in lone.items():
                path = bundle_of(context, folder / name.replace(" ", "_"), [item.files], item.cases, f"fp32.{format}")
                own = stack.enter_context(open_bundle(path))
                ids = [variant.id for variant in own.manifest.stages[0].variants]
                entries |= {f"{name} {id}": (own, id) for id in ids}
                rows[name] = [
                    FileRow(
                        variant=id,
                        bytes=own.manifest.variant(id)[1].total_bytes,
                        accuracy=evaluate(Predictor(own, variant=id), faces).accuracy,
                    )
                    for id in ids
                ]
            say(f"latency of {len(entries)} networks and chains, {spec.runs} runs each", show=context.progress)
            found = measure_together(entries, threads=spec.threads, runs=spec.runs, warmup=spec.warmup)
            latency = {name: found.of(name) for name in entries}
        return Speed(rows=rows, latency=latency, reference=found.reference, warning=found.warning)

    inputs = {
        "files": files,
        "chain": default,
        "known": KNOWN,
        "bench": spec,
        "faces": dataset_hash(faces),
        "cpu": this_machine().cpu,
    }
    return context.store.figures("table", TABLE_VERSION, inputs, make, Speed)
