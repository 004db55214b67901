"""What every stage of a run of masks shares: the recipe, the pictures, the store, and caches that are built once and
only when asked for."""

from __future__ import annotations

from functools import cached_property

from pocketface.benchmarks.data.label_files import labelled_hash, labelled_source
from pocketface.benchmarks.data.labelled import Labelled
from pocketface.compression.label_cache import LabelCache, build_label_cache
from pocketface.compression.pipeline.context import AnyContext
from pocketface.compression.segment_recipe import SegmentRecipe
from pocketface.compression.training.labelled import LabelledSplit, read_labelled_split
from pocketface.sdk.manifest import DataSource
from pocketface.sdk.progress import track


class SegmentContext(AnyContext[SegmentRecipe]):
    """A run on labelled pictures."""

    @cached_property
    def split(self) -> LabelledSplit:
        return read_labelled_split(self.recipe.data, self.data, skip_bad=self.skip_bad)

    @cached_property
    def training_hash(self) -> str:
        """Of the pictures that training and validation see, in this split."""
        return labelled_hash(self.split.train)[:32] + labelled_hash(self.split.validation)[:32]

    @cached_property
    def sources(self) -> tuple[DataSource, ...]:
        split, name = self.split, self.recipe.data.name
        parts = (("train", split.train), ("validation", split.validation), ("test", split.test))
        return tuple(labelled_source(found, name=name, split=part, licence=split.licence) for part, found in parts)

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
