"""What the manifest says of a network of landmarks or of a stage of a chain."""

from __future__ import annotations

from typing import Any

from torch import nn

from pocketface.compression.models.flops import count_parameters, flops
from pocketface.sdk.manifest import OutputSpec, Preprocess, Scheme, Stage, TensorSpec

DECODES = {
    "points": "normalised_points",
    "score": "face_logit",
    "pose": "head_pose",
    "box": "box_correction",
    "picture": "unit_image",
    "faces": "anchor_faces",
}
"""Output name of our own networks -> how it is decoded."""


def stage_contract(name: str, net: nn.Module, scheme: Scheme) -> Stage:
    """A stage of the manifest, before it has variants.

    Args:
        name: of the stage.
        net: a network of ``STAGE_MODELS`` or ``MODELS``, which says of itself what it does.
        scheme: of its landmarks, if it gives any.
    """
    described: Any = net
    size = described.input_size
    shapes = {
        "points": (1, getattr(net, "n_points", 0), 2),
        "score": (1,),
        "pose": (1, 3),
        "box": (1, 4),
        "picture": (1, 3, size, size),
        "faces": (1, *getattr(net, "anchor_shape", ())),
    }
    return Stage(
        name=name,
        task=described.task,
        preprocess=Preprocess(size=size, mean=described.mean, std=described.std),
        inputs=(TensorSpec(name="image", shape=(1, 3, size, size)),),
        outputs=tuple(
            OutputSpec(name=output, shape=shapes[output], decode=DECODES[output])  # type: ignore[arg-type]
            for output in described.output_names
        ),
        scheme=scheme if described.task == "landmarks" else None,
        parameters=count_parameters(net),
        flops=flops(net),
        variants=(),
    )
