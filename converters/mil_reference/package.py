"""The files of an ``.mlpackage`` folder: the model description and the weight files that its program names.

NAME.mlpackage/Manifest.json                          which item is the model
NAME.mlpackage/Data/com.apple.CoreML/model.mlmodel    the description (protobuf)
NAME.mlpackage/Data/com.apple.CoreML/weights/*.bin    "@model_path/weights/weight.bin" in the program
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pocketface.converters.chatter import chatter_to
from pocketface.converters.mil_reference.blob import WeightFile
from pocketface.sdk.errors import BundleError, MissingExtraError
from pocketface.sdk.files import os_problem
from pocketface.sdk.manifest import FileEntry

_AGAIN = "Fetch or build the bundle again"
_MODEL_PATH = "@model_path/"


class Package:
    """A package folder, read as the program asks for its files; nothing outside of it is ever read.

    Args:
        path: the ``.mlpackage`` folder.
        files: what the bundle's manifest says of its files; those that are read must have these hashes. Empty: not
            checked.

    Raises:
        BundleError: the folder is not a package, or one of its files is not the one that the manifest describes.
        EnvironmentProblemError: a file cannot be read.
    """

    def __init__(self, path: Path, files: Iterable[FileEntry] = ()) -> None:
        self.path = path
        self._hashes = {}
        for entry in files:
            # "models/face68.fp16.mlpackage/Data/..." -> "Data/..."; the folder itself may have another name here.
            _, found, below = entry.path.partition(".mlpackage/")
            if found:
                self._hashes[below] = entry.sha256
        self._weights: dict[str, WeightFile] = {}
        self._model = self._model_path()

    def spec(self) -> Any:
        """The model description (``coremltools.proto.Model_pb2.Model``).

        Raises:
            MissingExtraError: coremltools is not installed.
            BundleError: the file is no model description.
        """
        data = self._bytes(self._model)
        # On import it warns of everything that is missing on this machine, which reading a file does not need.
        with tempfile.TemporaryDirectory() as folder, chatter_to(Path(folder) / "coremltools.log"):
            try:
                from coremltools.proto import Model_pb2
                from google.protobuf.message import DecodeError
            except ImportError as error:
                raise MissingExtraError("reading Core ML packages", "coreml", str(error)) from error
        try:
            return Model_pb2.Model.FromString(data)
        except DecodeError as error:
            raise BundleError(f"{self._model} of {self.path.name} is no model ({error})", next=_AGAIN) from error

    def weights(self, name: str) -> WeightFile:
        """The weight file of this name in the program, read once.

        Raises:
            BundleError: the name leads out of the package, there is no such file, or it is no weight file.
        """
        if name not in self._weights:
            if not name.startswith(_MODEL_PATH):
                raise BundleError(
                    f"{self.path.name} takes weights from {name!r}", expected=f"{_MODEL_PATH}weights/…", next=_AGAIN
                )
            folder = self._model.rpartition("/")[0]
            below = f"{folder}/{name.removeprefix(_MODEL_PATH)}"
            self._weights[name] = WeightFile(self._bytes(below), f"{self.path.name}/{below}")
        return self._weights[name]

    def _model_path(self) -> str:
        """The model's place in the package, from its Manifest.json."""
        if not self.path.is_dir():
            raise BundleError(f"{self.path} is not a folder", expected="an .mlpackage folder", next=_AGAIN)
        try:
            manifest = json.loads(self._bytes("Manifest.json"))
            entry = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]
            return f"Data/{entry['path']}"
        except (ValueError, KeyError, TypeError) as error:
            raise BundleError(
                f"{self.path.name}/Manifest.json names no model ({type(error).__name__}: {error})", next=_AGAIN
            ) from error

    def _bytes(self, below: str) -> bytes:
        """A file of the package, which must not lead out of it, not by links either."""
        path = self.path / below
        try:
            inside = path.resolve().is_relative_to(self.path.resolve())
        except (OSError, ValueError, RuntimeError) as error:
            raise BundleError(f"{self.path.name} names the file {below!r} ({error})", next=_AGAIN) from error
        if not inside:
            raise BundleError(
                f"{self.path.name} names the file {below!r}",
                expected="a path that stays in the package",
                next="Do not trust this bundle; fetch or build it again",
            )
        try:
            data = path.read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise BundleError(f"{self.path.name} has no file {below!r}", next=_AGAIN) from error
        except OSError as error:
            raise os_problem(error, path, "read") from error
        if below in self._hashes and hashlib.sha256(data).hexdigest() != self._hashes[below]:
            raise BundleError(f"{path} is not the file the manifest describes", next=_AGAIN)
        return data
