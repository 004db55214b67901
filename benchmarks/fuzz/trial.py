"""Open one mutant, use it if it opens, and look at what happened to the disk.

Everything takes place in one folder: ``bundle/`` or ``bundle.pface``, ``tmp/`` where bundles are unpacked, ``cwd/``
where the process stands, and ``outside/``, whose file a link may point to. An audit hook sees every write of Python in
the whole file system; a look at the folder afterwards sees the rest.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pocketface.benchmarks.fuzz.mutants import FOLDER, LINK, PIPE, Files, Mutant
from pocketface.sdk.bundle import Bundle, open_bundle
from pocketface.sdk.chain import runnable
from pocketface.sdk.errors import EnvironmentProblemError, PocketfaceError
from pocketface.sdk.face_detector import FaceDetector
from pocketface.sdk.mask_predictor import MaskPredictor
from pocketface.sdk.predictor import Predictor

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
BOX = (8.0, 6.0, 50.0, 44.0)

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant.

    Attributes:
        result: ``refused``; ``opened``, and then it ran or was refused when it was used; ``untyped`` for an error that
            is not ours, ``machine`` for one that blames the machine; ``wrote`` outside its folder or left something.
        detail: the error's type, or what happened.
    """

    result: str
    detail: str = ""


class Place:
    """The folder in which mutants are tried, one after the other.

    Args:
        root: is made.
        files: of the bundle that is broken.
        variants: those that are run of a bundle that opens; None for all that can run here.
    """

    def __init__(self, root: Path, files: Files, variants: Sequence[str] | None = None) -> None:
        self.root, self.files, self.variants = root.resolve(), files, variants
        for name in ("bundle", "tmp", "cwd", "outside"):
            (self.root / name).mkdir(parents=True)
        (self.root / "outside" / "file").write_bytes(b"not yours")
        os.chdir(self.root / "cwd")
        tempfile.tempdir = str(self.root / "tmp")
        self._written: list[str] = []
        self._watching = False
        self._lay(files)
        self._laid: Files = dict(files)
        sys.addaudithook(self._hook)

    def run(self, mutant: Mutant) -> Outcome:
        """Try one mutant."""
        if mutant.files is None:
            path = self.root / "bundle.pface"
            path.write_bytes(mutant.packed)
        else:
            path = self.root / "bundle"
            self._change_to(mutant.files)
        before = self._outside()
        self._written.clear()
        self._watching = True
        try:
            outcome = self._open(path)
        finally:
            self._watching = False
        if self._written:
            return Outcome("wrote", self._written[0])
        if changed := set(self._outside()) ^ set(before):
            return Outcome("wrote", f"{min(changed)[0]} is new, changed or gone, beside the bundle")
        return outcome

    def _open(self, path: Path) -> Outcome:
        steps: list[tuple[str, Callable[[Any], Any]]] = [("golden", lambda bundle: bundle.golden()), ("run", self.use)]
        try:
            bundle = open_bundle(path)
        except EnvironmentProblemError as error:
            return Outcome("machine", str(error)[:200])
        except PocketfaceError as error:
            return Outcome("refused", type(error).__name__)
        except Exception:
            return Outcome("untyped", _last())
        with bundle:
            said = []
            for name, step in steps:
                try:
                    step(bundle)
                    said.append(f"{name}: fine")
                except PocketfaceError as error:
                    said.append(f"{name}: {type(error).__name__}")
                except Exception:
                    return Outcome("untyped", _last())
        return Outcome("opened", ", ".join(said))

    def use(self, bundle: Bundle) -> None:
        """Every variant or chain that is asked for; the first error of ours is raised once all have been tried."""
        refused = []
        for id in runnable(bundle.manifest) if self.variants is None else self.variants:
            try:
                _use(bundle, id)
            except PocketfaceError as error:
                refused.append(error)
        if refused:
            raise refused[0]

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._watching:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool((flags or 0) & _WRITES)
            if writes and not isinstance(path, int) and os.path.isdir(path):
                path = os.path.join(path, "nameless")  # O_TMPFILE, which names the folder that the file is made in
        else:
            writes = event in ("os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.chmod")
            # What is made: of two names, the second.
            second = event in ("os.link", "os.symlink", "os.rename")
            path = arguments[1 if second else 0]
        if not writes or isinstance(path, int) or (event in ("os.remove", "os.rmdir") and not os.path.isabs(path)):
            return  # a descriptor was opened before; tempfile removes by name alone, below a folder's descriptor
        full = os.path.realpath(os.path.join(os.getcwd(), os.fsdecode(path)))
        if full != os.devnull and not full.startswith(str(self.root / "tmp") + os.sep):
            self._written.append(f"{event} {full}")

    def _outside(self) -> list[tuple[str, int, int]]:
        found = []
        for folder in ("", "cwd", "outside", "tmp"):
            with os.scandir(self.root / folder) as entries:
                for entry in entries:
                    about = entry.stat(follow_symlinks=False)
                    if entry.name not in ("tmp", "cwd"):
                        found.append((f"{folder}/{entry.name}", about.st_size, about.st_mtime_ns))
        return sorted(found)

    def _change_to(self, files: Files) -> None:
        """Write only what differs from the mutant before."""
        if any(data in (LINK, FOLDER, PIPE) for data in (*files.values(), *self._laid.values())):
            shutil.rmtree(self.root / "bundle")
            (self.root / "bundle").mkdir()
            self._laid = {}
        for name in set(self._laid) - set(files):
            (self.root / "bundle" / name).unlink()
        self._lay({name: data for name, data in files.items() if self._laid.get(name) != data})
        self._laid = dict(files)

    def _lay(self, files: Files) -> None:
        for name, data in files.items():
            path = self.root / "bundle" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if data == LINK:
                path.symlink_to(self.root / "outside" / "file")
            elif data == FOLDER:
                path.mkdir()
            elif data == PIPE:
                os.mkfifo(path)
            else:
                path.write_bytes(data)


def _use(bundle: Bundle, id: str) -> None:
    """One picture through a variant or chain."""
    task = bundle.manifest.stages[-1].task
    if task == "segmentation":
        MaskPredictor(bundle, variant=id)(IMAGE)
    elif task == "detection":
        FaceDetector(bundle, variant=id)(IMAGE)
    else:
        Predictor(bundle, variant=id)(IMAGE, boxes=[BOX])


def _last() -> str:
    """Type and place of the error that is being handled."""
    kind, error, trace = sys.exc_info()
    frames = traceback.extract_tb(trace)[-4:]
    where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    return f"{kind.__name__ if kind else ''}: {str(error)[:120]} at {where}"
