"""What every stage of a run of masks shares: the recipe, the pictures, the store, and caches that are built once and
only when asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pocketface.benchmarks.data.label_files import labelled_hash
from pocketface.benchmarks.data.labelled import Labelled
from pocketface.compression.label_cache import LabelCache, build_label_cache
from pocketface.compression.pipeline.store import Store
from pocketface.compression.segment_recipe import SegmentRecipe
from pocketface.compression.training.labelled import LabelledSplit, read_labelled_split
from pocketface.sdk.progress import track


@dataclass
class SegmentContext:
    """One run; attributes as those of `RunContext`."""

    recipe: SegmentRecipe
    data: Path
    run: Path
    skip_bad: bool = False
    progress: bool = True
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.store = Store(self.run)

    @cached_property
    def split(self) -> LabelledSplit:
        return read_labelled_split(self.recipe.data, self.data, skip_bad=self.skip_bad)

    @cached_property
    def training_hash(self) -> str:
        """Of the pictures that training and validation see, in this split."""
        return labelled_hash(self.split.train)[:32] + labelled_hash(self.split.validation)[:32]

    @cached_property
    def train_cache(self) -> LabelCache:
        return self._cache("training", self.split.train)

    @cached_property
    def validation_cache(self) -> LabelCache:
        return self._cache("validation", self.split.validation)

    def _cache(self, what: str, entries: list[Labelled]) -> LabelCache:
        spec = self.recipe.data
        with track(f"decode {what} pictures", len(entries), show=self.progress) as step:
            return build_label_cache(
                entries,
                classes=self.split.classes,
                frame=spec.frame,
                max_side=spec.max_side,
                skip_bad=self.skip_bad,
                progress=step,
            )
