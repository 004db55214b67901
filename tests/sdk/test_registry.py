import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from pocketface.sdk import registry as module
from pocketface.sdk.errors import MissingExtraError, UnknownNameError
from pocketface.sdk.registry import Registry


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "pf_good.py").write_text("thing = object()\n")
    (tmp_path / "pf_needs.py").write_text("import package_that_nobody_has\n")
    (tmp_path / "pf_broken.py").write_text("import pocketface.sdk.no_such_module\n")
    return tmp_path


@pytest.mark.usefixtures("plugins")
def test_listing_imports_nothing_and_use_resolves() -> None:
    table = Registry("thing", {"b": "pf_good:thing", "a": "pf_needs:thing"})
    assert list(table) == ["a", "b"]
    assert len(table) == 2
    assert "a" in table
    assert "c" not in table
    assert "pf_good" not in sys.modules
    assert table["b"] is sys.modules["pf_good"].thing


def test_unknown_name_says_what_there_is_and_how_to_add() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown loss 'kdd' \(did you mean 'kd'\?\).*Valid: kd, l2.*pocketface.losses"
    ):
        Registry("loss", {"kd": "x:y", "l2": "x:y"})["kdd"]


@pytest.mark.usefixtures("plugins")
def test_a_missing_package_is_a_missing_extra_that_names_the_entrys_own_extra() -> None:
    table = Registry("thing", {"a": "pf_needs:thing", "b": "pf_needs:thing"}, extra="bench", extras={"b": "coreml"})
    with pytest.raises(MissingExtraError, match=r"pocketface\[bench\]"):
        table["a"]
    with pytest.raises(MissingExtraError, match=r"package_that_nobody_has.*pocketface\[coreml\]"):
        table["b"]


@pytest.mark.usefixtures("plugins")
def test_our_own_missing_module_is_a_defect_and_shows() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        Registry("thing", {"a": "pf_broken:thing"}, extra="bench")["a"]


@pytest.mark.usefixtures("plugins")
def test_without_an_extra_the_import_error_shows() -> None:
    with pytest.raises(ModuleNotFoundError, match="package_that_nobody_has"):
        Registry("thing", {"a": "pf_needs:thing"})["a"]


@pytest.mark.usefixtures("plugins")
def test_another_distribution_adds_an_entry_but_cannot_replace_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def points(group: str) -> list[EntryPoint]:
        asked.append(group)
        return [EntryPoint("new", "pf_good:thing", group), EntryPoint("own", "pf_needs:thing", group)]

    monkeypatch.setattr(module, "entry_points", points)
    table = Registry("student", {"own": "pf_good:thing"})
    assert list(table) == ["new", "own"]
    assert table["new"] is table["own"] is sys.modules["pf_good"].thing
    assert set(asked) == {"pocketface.students"}


@pytest.mark.usefixtures("plugins")
def test_register_and_unregister() -> None:
    table = Registry("thing", {})
    table.register("dummy", "pf_good:thing")
    assert table["dummy"] is sys.modules["pf_good"].thing
    table.unregister("dummy")
    assert list(table) == []
