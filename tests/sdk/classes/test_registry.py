import json
from pathlib import Path
from typing import Any

import pytest

from pocketface.sdk.classes import CLASS_SETS, check_classes, load_classes
from pocketface.sdk.errors import ConfigError, UnknownNameError
from pocketface.sdk.manifest import ClassSet


@pytest.mark.parametrize("name", CLASS_SETS)
def test_every_built_in_set_is_sound_and_can_be_drawn(name: str) -> None:
    classes = load_classes(name)
    check_classes(classes)
    assert classes.name == name
    assert len(set(classes.colours)) == len(classes.names)


def test_the_sets_of_the_hair_and_parsing_networks() -> None:
    assert load_classes("hair2").names == ("background", "hair")
    names = load_classes("face11").names
    assert names == (
        *("background", "skin", "hair", "nose", "left brow", "right brow", "left eye", "right eye"),
        *("upper lip", "lower lip", "inner mouth"),
    )


@pytest.mark.parametrize("name", CLASS_SETS)
def test_a_mirror_swaps_exactly_left_and_right(name: str) -> None:
    classes = load_classes(name)
    swapped = {"left": "right", "right": "left"}
    mirrored = [" ".join(swapped.get(word, word) for word in name.split()) for name in classes.names]
    flip = classes.flip or range(len(classes.names))
    assert [classes.names[number] for number in flip] == mirrored


BASE: dict[str, Any] = {"name": "mine", "names": ["background", "hat", "glove"], "flip": [0, 2, 1]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["background"], "flip": []}, "1 classes, expected 2 to 255"),
        ({"names": ["background", *map(str, range(255))], "flip": []}, "256 classes"),
        ({"names": ["hat", "background", "glove"]}, "class 0 is 'hat', expected background"),
        ({"names": ["background", "hat", "hat"]}, "all different"),
        ({"names": ["background", "hat", ""]}, "a name for each class"),
        ({"flip": [0, 1]}, "flip is no mirror"),
        ({"flip": [1, 0, 2]}, "keeps the background"),
        ({"names": ["background", "a", "b", "c"], "flip": [0, 2, 3, 1]}, "undoes itself"),
        ({"colours": [[0, 0, 0]]}, "1 colours, expected 3, or none"),
        ({"colours": [[0, 0, 0], [1, 2, 256], [0, 0, 0]]}, r"colour \(1, 2, 256\)"),
        ({"colours": [[0, 0], [1, 2], [0, 0]]}, "Expected `array` of length 3"),
        ({"colour": 1}, "unknown field `colour`"),
        ({"names": "hair"}, "Expected `array`"),
    ],
)
def test_refuses_what_contradicts_itself(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(BASE))
    assert load_classes(path) == ClassSet(name="mine", names=("background", "hat", "glove"), flip=(0, 2, 1))
    path.write_text(json.dumps(BASE | change))
    with pytest.raises(ConfigError, match=message) as caught:
        load_classes(path)
    assert "mine.json" in str(caught.value)


def test_refuses_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"class set 'hair3' \(did you mean 'hair2'\?\). Valid: face11, hair2"):
        load_classes("hair3")
    with pytest.raises(ConfigError, match="no such file"):
        load_classes(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ConfigError, match=r"broken\.json"):
        load_classes(tmp_path / "broken.json")
