"""Stages on disk: RUN/stages/NAME-KEY/, where KEY hashes everything the stage depends on.

A stage that is there is done and skipped; a changed recipe gives other keys, so only what depends on the change runs
again and nothing
is overwritten. A stage in the making is NAME-KEY.partial: a killed run finds its checkpoints there and goes on.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from pocketface.compression.models.registry import ModelSpec
from pocketface.sdk.files import os_problem, sha256, write_atomic

log = logging.getLogger("pocketface")

T = TypeVar("T")


@dataclass(frozen=True)
class Done:
    """A finished stage.

    Attributes:
        name, key: e.g. ``"student"`` and twelve hexadecimal digits.
        path: its folder.
        seconds: what it took, over all its attempts that got to checkpoint or finish.
        fresh: whether it was made by this call.
    """

    name: str
    key: str
    path: Path
    seconds: float
    fresh: bool


class Store:
    """The stages of one run.

    Args:
        run: the run's folder.
        root: of the stages, default: RUN/stages; made if it is missing.
    """

    def __init__(self, run: Path, root: Path | None = None) -> None:
        self.run, self.root = run, run / "stages" if root is None else root
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise os_problem(error, self.root, "create") from error

    @staticmethod
    def key(name: str, version: int, inputs: Mapping[str, Any]) -> str:
        """Twelve hexadecimal digits that depend on the stage's name, its version and everything in ``inputs``."""
        content = msgspec.json.encode([name, version, canonical(dict(inputs))], order="deterministic")
        return hashlib.sha256(content).hexdigest()[:12]

    def stage(self, name: str, version: int, inputs: Mapping[str, Any], build: Callable[[Path], None]) -> Done:
        """Find a stage, or make it.

        Args:
            name: of the stage.
            version: raised whenever the stage's code changes what it makes.
            inputs: all it depends on: its part of the recipe and the keys of the stages it reads.
            build: fills the folder it is given; called again on the same folder after an interruption.
        """
        key = self.key(name, version, inputs)
        final = self.root / f"{name}-{key}"
        with self._lock(final):
            if final.is_dir():
                record = json.loads((final / "stage.json").read_text())
                return Done(name, key, final, record["seconds"], fresh=False)
            partial = final.with_name(final.name + ".partial")
            try:
                partial.mkdir(exist_ok=True)
                clock = _Clock(partial / "seconds.json")
                log.info("stage %s-%s", name, key)
                with clock:
                    build(partial)
                record = {
                    "name": name,
                    "version": version,
                    "seconds": clock.total,
                    "inputs": msgspec.to_builtins(inputs),
                }
                write_atomic(partial / "stage.json", json.dumps(record, indent=1).encode(), force=True)
                (partial / "seconds.json").unlink(missing_ok=True)
                partial.rename(final)
            except OSError as error:
                raise os_problem(error, partial) from error
            return Done(name, key, final, clock.total, fresh=True)

    def figures(
        self,
        name: str,
        version: int,
        inputs: Mapping[str, Any],
        make: Callable[[Path], T],
        type: type[T],
        *,
        file: str = "figures.json",
    ) -> T:
        """What a stage measures: read where it was measured before, else made and kept.

        Args:
            name, version, inputs: as for ``stage``.
            make: measures; may keep further files in the folder that it is given.
            type: of the figures: whatever msgspec encodes.
            file: under which the stage keeps them.
        """

        def build(folder: Path) -> None:
            (folder / file).write_bytes(msgspec.json.encode(make(folder)))

        done = self.stage(name, version, inputs, build)
        return msgspec.json.decode((done.path / file).read_bytes(), type=type)

    @contextmanager
    def _lock(self, final: Path) -> Iterator[None]:
        """One process at a time makes a stage; a second one waits and then finds it done."""
        with (self.root / f".{final.name}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("stage %s is being made by another process: waiting", final.name)
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


def canonical(value: Any) -> Any:
    """Plain data for hashing, without the fields of structs that have their default.

    So a new field with a default leaves old keys valid; whoever changes what a default means raises the stage's
    version.
    """
    if isinstance(value, msgspec.Struct):
        fields = msgspec.structs.fields(value)
        return {f.name: canonical(item) for f in fields if (item := getattr(value, f.name)) != _default(f)}
    if isinstance(value, Mapping):
        return {str(name): canonical(item) for name, item in value.items()}
    return [canonical(item) for item in value] if isinstance(value, list | tuple) else value


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default


class _Clock:
    """Adds up the seconds of all attempts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.total = json.loads(path.read_text()) if path.exists() else 0.0

    def __enter__(self) -> None:
        self._start = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.total += time.monotonic() - self._start
        write_atomic(self.path, json.dumps(self.total).encode(), force=True)


def init_key(model: ModelSpec) -> dict[str, str]:
    """What a network's training depends on beside its recipe: the file that it begins with, if it is one."""
    path = Path(model.init)
    return {"init": sha256(path)} if path.is_file() else {}
