"""Dependencies point one way, sdk <- benchmarks <- converters <- compression, and the runtime needs next to nothing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("sdk", "benchmarks", "converters", "compression")
FILES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))

RUNTIME = {"numpy", "PIL", "msgspec", "typer", "rich", "onnxruntime"}
PREDECESSORS = {"tflite_runtime"}
NO_TORCH = {"torch", "lightning", "torchvision", "timm", "litert_torch", "coremltools", "torchao", "nncf"}


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere, and every one of ours that it names as "module" or "module:object"."""
    package = ["pocketface", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            yield ".".join([*base, *([node.module] if node.module else [])])
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.fullmatch(r"pocketface\.\w+(\.\w+)*(:\w+)?", node.value)
        ):
            yield node.value.partition(":")[0]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_the_scan_sees_all_kinds_of_imports(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / "sdk" / "inner" / "x.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "import os, torch.nn as nn\nfrom PIL import Image\nfrom .. import y\nfrom .z import w\n"
        "def f():\n    from pocketface.converters.bundle import g\n"
        "TABLE = {'a': 'pocketface.compression.models:build'}\n'''see pocketface.sdk here'''\n"
    )
    assert sorted(imported(path)) == [
        *("PIL", "os", "pocketface.compression.models", "pocketface.converters.bundle"),
        *("pocketface.sdk", "pocketface.sdk.inner.z", "torch.nn"),
    ]


@pytest.mark.parametrize("path", FILES, ids=name)
def test_nothing_reaches_up(path):
    layer = LAYERS.index(path.relative_to(ROOT).parts[0])
    ours = [module for module in imported(path) if module.split(".")[0] == "pocketface"]
    above = [module for module in ours if [*module.split("."), ""][1] in LAYERS[layer + 1 :]]
    assert not above, f"{name(path)} reaches up to {above}"
    # "import sdk" works by accident where the repository root is on the path, and gives a second copy of every class.
    loose = [module for module in imported(path) if module.split(".")[0] in LAYERS]
    assert not loose, f"{name(path)} imports {loose} instead of pocketface.…"


def brought_by(extra: str) -> set[str]:
    """Packages that an extra of pyproject.toml asks for: a backend may import those of the extra it is called after."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    return {re.split(r"[^\w-]", line)[0].replace("-", "_") for line in extras.get(extra, [])}


@pytest.mark.parametrize("path", [path for path in FILES if path.is_relative_to(ROOT / "sdk")], ids=name)
def test_the_runtime_needs_only_its_dependencies(path):
    allowed = RUNTIME | {"pocketface"} | sys.stdlib_module_names
    if path.parent.name == "backends":
        allowed |= brought_by(path.stem) | PREDECESSORS
    if path.parent.name == "video":
        allowed |= brought_by("video")
    if path.name == "signing.py":
        allowed |= brought_by("sign")
    foreign = {module.split(".")[0] for module in imported(path)} - allowed
    assert not foreign, f"{name(path)} imports {sorted(foreign)}"


@pytest.mark.parametrize("path", [path for path in FILES if path.is_relative_to(ROOT / "benchmarks")], ids=name)
def test_benchmarks_need_no_torch_and_their_core_only_numpy_and_pillow(path):
    foreign = {module.split(".")[0] for module in imported(path)} - sys.stdlib_module_names - {"pocketface"}
    assert not foreign & NO_TORCH, f"{name(path)} imports {sorted(foreign & NO_TORCH)}"
    if path.parent.name == "data" or path.name == "metrics.py":
        assert foreign <= {"numpy", "PIL"}, f"{name(path)} imports {sorted(foreign)}"


@pytest.mark.parametrize(
    "package", ["sdk", "sdk.cli", "sdk.video", "benchmarks.data", "benchmarks.metrics", "benchmarks.commands"]
)
def test_importing_loads_no_torch_and_no_converter(package):
    """In a process of its own, with the submodules: what the files say is one thing, what gets loaded another."""
    heavy = sorted(NO_TORCH | {"matplotlib", "onnx", "onnxruntime", "scipy", "av"})
    script = (
        "import importlib, pkgutil, sys\n"
        f"module = importlib.import_module('pocketface.{package}')\n"
        "for found in pkgutil.iter_modules(getattr(module, '__path__', [])):\n"
        "    importlib.import_module(f'{module.__name__}.{found.name}')\n"
        f"print([name for name in {heavy!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
