import pickle

import pytest

from pocketface.sdk import errors
from pocketface.sdk.errors import (
    BadInputError,
    EnvironmentProblemError,
    GateFailedError,
    MissingExtraError,
    PocketfaceError,
    UnknownNameError,
)


def test_message_says_got_expected_choices_and_next_action_in_this_order() -> None:
    error = BadInputError("a.pts: 67 points", expected="68", choices=["b", "a"], next="fix the file")
    assert str(error) == "a.pts: 67 points, expected 68. Valid: b, a. Fix the file."
    assert (error.what, error.expected, error.choices, error.next) == (
        "a.pts: 67 points",
        "68",
        ("b", "a"),
        "fix the file",
    )


def test_message_has_no_doubled_full_stops_and_shows_an_empty_list_of_choices() -> None:
    assert str(BadInputError("It broke.", choices=[], next="Try again.")) == "It broke. Valid: none. Try again."


def test_a_command_as_next_action_stays_as_it_is_typed() -> None:
    assert str(BadInputError("67 points", next="pocketface schemes")) == "67 points. pocketface schemes."


def test_unknown_name_suggests_the_nearest_and_lists_all_sorted() -> None:
    text = str(UnknownNameError("model", "mobilnetv2", ["resnet", "mobilenetv2"], next="Look again"))
    assert text == "unknown model 'mobilnetv2' (did you mean 'mobilenetv2'?). Valid: mobilenetv2, resnet. Look again."
    assert "did you mean" not in str(UnknownNameError("model", "zzz", ["resnet"]))


def test_missing_extra_names_the_command_that_installs_it() -> None:
    text = str(MissingExtraError("backend 'tflite'", "tflite", "No module named 'x'"))
    assert "No module named 'x'" in text
    assert text.endswith("Install it: pip install 'pocketface[tflite]'.")


@pytest.mark.parametrize(
    ("kind", "code"),
    [(GateFailedError, 1), (BadInputError, 2), (EnvironmentProblemError, 3), (PocketfaceError, 2)],
)
def test_exit_codes(kind: type[PocketfaceError], code: int) -> None:
    assert kind("x").exit_code == code


def test_every_error_is_a_pocketface_error_with_a_documented_exit_code() -> None:
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, Exception)]
    ours: list[type[PocketfaceError]] = [k for k in kinds if issubclass(k, PocketfaceError)]
    assert len(kinds) == len(ours) > 8
    assert all(k.exit_code in (1, 2, 3) for k in ours)


@pytest.mark.parametrize(
    "error",
    [
        errors.ConfigError("x", expected="y", choices=["a"], next="do z"),
        errors.UnknownNameError("model", "mobilnet", ["mobilenetv2"]),
        errors.MissingExtraError("a thing", "compress", "no module"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_come_back_from_another_process(error: PocketfaceError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
