"""Comparison of versions, against `packaging`, and the tested set, against the two files it is made from."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from pocketface.sdk.doctor import versions
from pocketface.sdk.doctor.versions import back_to_tested, compare, extra_with, load_tested, order, satisfies

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("found", "tested", "says"),
    [
        ("2.13.0", "2.13.0", "as tested"),
        ("2.13.0+cpu", "2.13.0", "as tested"),
        ("2.13", "2.13.0", "as tested"),
        ("2.13.1", "2.13.0", "newer"),
        ("2.9.1", "2.13.0", "older"),  # not as text: "9" > "1"
        ("2.14.0.dev20260101+cpu", "2.13.0", "newer"),
        ("2.13.0rc2", "2.13.0", "older"),
        ("2.13.0.post1", "2.13.0", "newer"),
        ("1!1.0", "9.0", "newer"),
        ("7.36.2", "7.36.2", "as tested"),
        ("unknown", "1.0", "other"),
        ("unknown", "unknown", "as tested"),
    ],
)
def test_versions_compare_as_a_reader_would_say(found: str, tested: str, says: str) -> None:
    assert compare(found, tested) == says


_NUMBER = st.integers(0, 12)
_TEXTS = st.builds(
    lambda epoch, release, pre, post, dev, local: (
        epoch + ".".join(map(str, release)) + pre + post + dev + ("+cpu" if local else "")
    ),
    st.sampled_from(["", "", "", "1!"]),
    st.lists(_NUMBER, min_size=1, max_size=4),
    st.sampled_from(["", "", "", "a1", "b2", "rc1", ".beta3", "-preview", "c4"]),
    st.sampled_from(["", "", "", ".post1", "-2", "rev3", ".post"]),
    st.sampled_from(["", "", "", ".dev0", ".dev4", "dev"]),
    st.booleans(),
)


@given(_TEXTS, _TEXTS)
def test_versions_sort_as_packaging_sorts_them(left: str, right: str) -> None:
    # Local parts, which say how a version was built, do not count here.
    a, b = (Version(text.partition("+")[0]) for text in (left, right))
    assert (order(left) < order(right), order(left) == order(right)) == (a < b, a == b)


@given(_TEXTS, st.sampled_from(["", ">=2.0", "<3,>=2.6", "==0.10.*", "==2.13.0", "!=1.5,>1", "<=4", "~=2.1", "!=3.*"]))
def test_requirements_are_read_as_packaging_reads_them(text: str, requires: str) -> None:
    version = Version(text)
    if version.local or (version.is_postrelease and ">1" in requires):
        return  # corners of the standard that no requirement of ours meets
    assert satisfies(text, requires) == SpecifierSet(requires).contains(version, prereleases=True)


def test_what_cannot_be_read_is_no_complaint() -> None:
    assert satisfies("unknown", ">=2")
    assert satisfies("1.0", "=== exactly")


def test_the_tested_set_agrees_with_pyproject_and_constraints() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if re.match(r"^[\w.-]+==", line)
    )
    pinned = {versions.normalised(name): version for name, version in pinned.items()}
    want: dict[str, list[str]] = {}
    for extra, lines in {"": project["dependencies"], **project["optional-dependencies"]}.items():
        for requirement in map(Requirement, lines):
            if extra not in ("dev", "sign") and requirement.name != "pocketface":
                want.setdefault(versions.normalised(requirement.name), []).append(extra)
    stored = load_tested()
    assert set(stored.packages) == set(want), "run: make constraints"
    for name, package in stored.packages.items():
        assert package.tested == pinned[name], "run: make constraints"
        assert list(package.extras) == [extra for extra in want[name] if "" not in want[name]], "run: make constraints"
        assert satisfies(package.tested, package.requires)
    assert stored.python == project["requires-python"]


def test_the_file_is_what_make_constraints_writes() -> None:
    done = subprocess.run([sys.executable, ROOT / ".ci" / "tested-versions"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((ROOT / "sdk" / "doctor" / "tested_versions.json").read_text())


def test_a_module_leads_to_the_extra_that_brings_it() -> None:
    assert extra_with("torch") == "compress"
    assert extra_with("ai_edge_litert") == "tflite"
    assert extra_with("coremltools") == "coreml"
    assert extra_with("numpy") is None
    assert extra_with("a_package_of_nobody") is None


def test_the_way_back_names_what_differs_and_only_that(monkeypatch: pytest.MonkeyPatch) -> None:
    packages = load_tested().packages
    here = {name: package.tested for name, package in packages.items() if name != "matplotlib"}
    monkeypatch.setattr(versions, "installed", here.get)
    assert back_to_tested("compress") == "pip install --force-reinstall --no-cache-dir 'pocketface[compress]'"
    here["torch"] = "1.0"
    assert back_to_tested("compress") == f"pip install torch=={packages['torch'].tested}"
    del here["onnxruntime"]  # always needed, so that its absence is a difference; matplotlib's is not
    assert back_to_tested("").split()[2:] == [f"{name}=={packages[name].tested}" for name in ("torch", "onnxruntime")]
