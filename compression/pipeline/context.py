"""What every stage of a run shares: the recipe, the faces, the store, and caches that are built once and only when
asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

from pocketface.benchmarks.data.face import Face
from pocketface.benchmarks.data.fingerprint import data_source, dataset_hash
from pocketface.compression.cache import FaceCache, build_cache
from pocketface.compression.chain_recipe import ChainRecipe
from pocketface.compression.pipeline.store import Store
from pocketface.compression.recipe import Recipe
from pocketface.compression.training.faces import Split, background_cache, read_split
from pocketface.sdk.manifest import DataSource
from pocketface.sdk.progress import track

A = TypeVar("A")
R = TypeVar("R", Recipe, ChainRecipe)
"""Recipes of landmarks."""


@dataclass
class AnyContext(Generic[A]):
    """One run, whatever its recipe is for.

    Attributes:
        recipe: what to do.
        data: root folder of the data set.
        run: the run's folder.
        skip_bad: leave broken annotations out instead of refusing them.
        progress: show progress bars.
        stages: folder of the stages, to share them with other runs; default: the run's own.
    """

    recipe: A
    data: Path
    run: Path
    skip_bad: bool = False
    progress: bool = True
    stages: Path | None = None
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.store = Store(self.run, self.stages)

    @property
    def training_hash(self) -> str:
        """Of what training and validation see, in this split."""
        raise NotImplementedError

    @property
    def sources(self) -> tuple[DataSource, ...]:
        """The manifest's lines on the data: training, validation, test."""
        raise NotImplementedError


class RunContext(AnyContext[R]):
    """A run on annotated faces, of one network or of a chain."""

    @cached_property
    def split(self) -> Split:
        return read_split(self.recipe.data, self.data, skip_bad=self.skip_bad)

    @cached_property
    def training_hash(self) -> str:
        """Of the faces that training and validation see, in this split."""
        return dataset_hash(self.split.train)[:32] + dataset_hash(self.split.validation)[:32]

    @cached_property
    def sources(self) -> tuple[DataSource, ...]:
        split, name = self.split, self.recipe.data.name
        parts = (("train", split.train), ("validation", split.validation), ("test", split.test))
        return tuple(data_source(faces, name=name, split=part, licence=split.licence) for part, faces in parts)

    @cached_property
    def train_cache(self) -> FaceCache:
        return self._cache("training", self.split.train)

    @cached_property
    def validation_cache(self) -> FaceCache:
        return self._cache("validation", self.split.validation)

    @cached_property
    def test_cache(self) -> FaceCache:
        """Read only once every choice is made."""
        return self._cache("test", self.split.test)

    @cached_property
    def backgrounds(self) -> FaceCache | None:
        spec = self.recipe.data
        if not spec.backgrounds:
            return None
        return background_cache(spec.backgrounds, seed=self.recipe.seed, n_points=self.split.scheme.points)

    def _cache(self, what: str, faces: list[Face]) -> FaceCache:
        with track(f"decode {what} faces", len(faces), show=self.progress) as step:
            return build_cache(faces, progress=step)


class Context(RunContext[Recipe]):
    """A run of one network and its teachers."""


class ChainContext(RunContext[ChainRecipe]):
    """A run of a chain of networks."""
