"""What gets installed: every package of ours, its data, and nothing under another name than pocketface."""

from __future__ import annotations

import ast
import fnmatch
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("sdk", "benchmarks", "converters", "compression")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
FOLDERS = sorted(
    Path(folder).relative_to(ROOT)
    for layer in LAYERS
    for folder, inner, files in os.walk(ROOT / layer)
    if not folder.endswith("__pycache__") and any(not name.startswith(".") for name in files)
)


def dotted(folder: Path) -> str:
    return ".".join(["pocketface", *folder.parts])


def test_every_folder_is_listed_and_every_listed_one_exists():
    assert sorted(SETUPTOOLS["packages"]) == sorted(dotted(folder) for folder in FOLDERS)
    assert {f"pocketface.{layer}": layer for layer in LAYERS} == SETUPTOOLS["package-dir"]


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_every_folder_is_a_package_whose_init_is_a_table_of_contents(folder):
    init = ROOT / folder / "__init__.py"
    assert init.is_file()
    tree = ast.parse(init.read_text())
    assert ast.get_docstring(tree), f"{folder} does not say what it is"
    for node in tree.body[1:]:
        contents = isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["__all__"]
        assert contents or isinstance(node, ast.Import | ast.ImportFrom), f"{init}: {ast.unparse(node)}"


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_every_data_file_is_packed(folder):
    patterns = [*SETUPTOOLS["package-data"]["*"], *SETUPTOOLS["package-data"].get(dotted(folder), []), "*.py"]
    for path in (ROOT / folder).iterdir():
        if path.is_file() and not path.name.startswith("."):
            packed = any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns)
            assert packed, f"{path.relative_to(ROOT)} fits none of {patterns}"


def test_types_ship_with_every_package():
    assert all((ROOT / layer / "py.typed").is_file() for layer in LAYERS)


@pytest.mark.parametrize(("command", "target"), PROJECT["project"]["entry-points"]["pocketface.commands"].items())
def test_every_command_is_a_function_that_says_what_it_does(command, target):
    module, _, function = target.partition(":")
    path = ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py")
    found = {node.name: node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
    assert function in found
    assert ast.get_docstring(found[function]), f"pocketface {command} has no help"


def test_extras_refer_to_extras_that_exist():
    extras = PROJECT["project"]["optional-dependencies"]
    named = [
        inner.strip()
        for requirements in extras.values()
        for requirement in requirements
        if requirement.startswith("pocketface[")
        for inner in requirement.partition("[")[2].partition("]")[0].split(",")
    ]
    assert named
    assert set(named) <= set(extras)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy: building leaves folders behind, and reads what an earlier build left."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, copy / name)
    for layer in LAYERS:
        shutil.copytree(ROOT / layer, copy / layer, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    # What must not get in.
    for name in ("tests", "runs", "docs"):
        (copy / name).mkdir()
        (copy / name / "extra.py").write_text("")
    script = f"import setuptools.build_meta as b; b.build_wheel({str(out)!r})"
    done = subprocess.run([sys.executable, "-c", script], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.whl")
    return path


def test_the_wheel_holds_all_of_pocketface_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    assert {name.split("/")[0] for name in names} == {
        "pocketface",
        f"pocketface-{PROJECT['project']['version']}.dist-info",
    }
    want = {
        f"pocketface/{path.relative_to(ROOT).as_posix()}"
        for folder in FOLDERS
        for path in (ROOT / folder).iterdir()
        if path.is_file() and not path.name.startswith(".")
    }
    assert {name for name in names if name.startswith("pocketface/")} == want
    assert "pocketface/__init__.py" not in names  # a namespace: other distributions may add to it
    bare = [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert not any("torch" in line for line in bare)


def test_the_wheel_runs_without_this_folder(wheel, tmp_path):
    """Installed by unpacking, with the repository out of reach: the command lists its subcommands."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    script = (
        "import sys\n"
        f"sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
        f"sys.path[:] = [{str(tmp_path)!r}] + [p for p in sys.path if {str(ROOT)!r} != p.rstrip('/')]\n"
        "import pocketface.sdk, pocketface.benchmarks\n"
        "print(pocketface.sdk.__file__)\n"
        "print(len(pocketface.sdk.SCHEMES))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    where, schemes = done.stdout.split()
    assert Path(where).is_relative_to(tmp_path)
    assert int(schemes) >= 2
