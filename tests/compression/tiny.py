"""The smallest recipe that goes through everything, shared by the training and the pipeline tests."""

from __future__ import annotations

from typing import Any

from pocketface.compression.recipe import Recipe
from pocketface.compression.recipe_file import parse_recipe

NETWORK: dict[str, Any] = {"model": {"name": "mobilenetv2", "width": 0.25, "input_size": 32}, "loss": {"name": "l1"}}
SHORT: dict[str, Any] = {"epochs": 3, "batch_size": 8, "ema": 0.9}


def tiny_recipe(changes: dict[str, Any] | None = None, **student: Any) -> Recipe:
    """A recipe for the fixture `drawn_folder`; ``changes`` replace its top-level keys, ``student`` those of its
    student."""
    return parse_recipe(
        {
            "name": "tiny",
            "data": {"name": "drawn", "format": "pts", "train": ["train"], "test": ["test"], "backgrounds": 4},
            "augment": {"rotation": 10, "flip": 0.0, "occlusion": 0.0, "noise": 2, "brightness": 10},
            "teachers": {
                "tough": {**NETWORK, "train": SHORT},
                "tolerant": {**NETWORK, "train": SHORT, "target": "soft"},
            },
            "student": {**NETWORK, "train": SHORT, **student},
            "export": {"formats": {"onnx": ["fp32"]}},
            "weights_licence": "none",
            **(changes or {}),
        }
    )
