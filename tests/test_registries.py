"""Every registry of the code base: whoever adds an entry, or a registry, is tested here without touching this file."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import pytest

from pocketface.sdk.errors import MissingExtraError, UnknownNameError
from pocketface.sdk.registry import Registry

ROOT = Path(__file__).parents[1]
LAYERS = ("sdk", "benchmarks", "converters", "compression")


def modules() -> list[str]:
    files = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("registry.py"))
    return [".".join(["pocketface", *path.relative_to(ROOT).with_suffix("").parts]) for path in files]


def registries() -> dict[str, Registry]:
    found = {}
    for name in modules():
        for attribute, value in vars(importlib.import_module(name)).items():
            if isinstance(value, Registry):
                found[attribute] = value
    return found


REGISTRIES = registries()
ENTRIES = [(registry, name) for registry in REGISTRIES for name in REGISTRIES[registry]]


def test_all_are_found():
    # Independent of the search above: every place in the code that makes a Registry.
    made = set()
    for layer in LAYERS:
        for path in (ROOT / layer).rglob("*.py"):
            for node in ast.parse(path.read_text()).body:
                value = getattr(node, "value", None)
                if isinstance(value, ast.Call) and getattr(value.func, "id", "") == "Registry":
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]  # type: ignore[attr-defined]
                    made |= {target.id for target in targets}
    assert made == set(REGISTRIES)
    assert {"BACKENDS", "DATASETS", "EXPORTERS", "QUANTIZERS", "MODELS", "LOSSES"} <= made


def test_no_two_share_an_entry_point_group():
    groups = [registry.group for registry in REGISTRIES.values()]
    assert len(set(groups)) == len(groups)


@pytest.mark.parametrize(("registry", "name"), ENTRIES, ids=[f"{registry}-{name}" for registry, name in ENTRIES])
def test_every_entry_resolves(registry, name):
    try:
        entry = REGISTRIES[registry][name]
    except MissingExtraError as error:
        pytest.skip(str(error))
    assert entry is REGISTRIES[registry][name]
    assert not isinstance(entry, ModuleType), "the target lacks its object"


@pytest.mark.parametrize("registry", REGISTRIES)
def test_a_new_entry_is_one_line(registry):
    table = REGISTRIES[registry]
    before = list(table)
    table.register("a-dummy", "fractions:Fraction")
    try:
        assert table["a-dummy"] is Fraction
        assert "a-dummy" in table
        assert list(table) == sorted([*before, "a-dummy"])
        assert len(table) == len(before) + 1
    finally:
        table.unregister("a-dummy")
    assert list(table) == before


@pytest.mark.parametrize("registry", REGISTRIES)
def test_another_distribution_adds_an_entry(registry, tmp_path, monkeypatch):
    table = REGISTRIES[registry]
    info = tmp_path / "elsewhere-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{table.group}]\nfrom-elsewhere = fractions:Fraction\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert table["from-elsewhere"] is Fraction
    assert "from-elsewhere" in list(table)


@pytest.mark.parametrize("registry", REGISTRIES)
def test_an_unknown_name_gets_the_nearest_and_all_valid_ones(registry):
    table = REGISTRIES[registry]
    first = next(iter(table))
    misspelt = first + "x"
    with pytest.raises(UnknownNameError) as caught:
        table[misspelt]
    assert caught.value.choices == tuple(table)
    assert f"unknown {table.kind} {misspelt!r}" in str(caught.value)
    assert "did you mean" in str(caught.value)
    assert table.group in str(caught.value)
    assert caught.value.exit_code == 2
    with pytest.raises(UnknownNameError) as caught:
        table["%%%%"]
    assert "did you mean" not in str(caught.value)
    assert "%%%%" not in table


@pytest.mark.parametrize("registry", REGISTRIES)
def test_a_missing_package_is_named_with_its_extra(registry, tmp_path, monkeypatch):
    table = REGISTRIES[registry]
    (tmp_path / "needs_more.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    table.register("a-dummy", "needs_more:thing")
    try:
        # A registry without extras needs nothing that could be missing: there it is a defect, and shows.
        with pytest.raises((MissingExtraError, ModuleNotFoundError), match="a_package_that_is_not_there") as caught:
            table["a-dummy"]
        assert isinstance(caught.value, MissingExtraError) == (table._extra is not None)
    finally:
        table.unregister("a-dummy")


def test_listing_imports_nothing():
    script = (
        "import importlib, sys\n"
        "from pocketface.sdk.registry import Registry\n"
        f"found = [importlib.import_module(name) for name in {modules()!r}]\n"
        "tables = [value for module in found for value in vars(module).values() if isinstance(value, Registry)]\n"
        "targets = {target.partition(':')[0] for table in tables for target in table._entries().values()}\n"
        "print(sorted((targets | {'torch', 'onnx', 'onnxruntime'}) & sys.modules.keys()), len(targets))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded, count = done.stdout.rsplit(maxsplit=1)
    assert int(count) > 5
    assert loaded == "[]"
