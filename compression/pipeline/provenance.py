"""Where a bundle comes from: recipe, data, tool versions, commit; and the model card that says it in words."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pocketface.benchmarks.checkout import git_commit as git_commit
from pocketface.benchmarks.metrics import Accuracy
from pocketface.compression.pipeline.context import AnyContext, ChainContext, Context
from pocketface.compression.recipe_file import recipe_sha256
from pocketface.sdk.manifest import Provenance

TOOLS = (
    "pocketface", "torch", "lightning", "onnx", "onnxruntime", "litert-torch", "ai-edge-litert", "ai-edge-quantizer",
    "coremltools", "numpy", "pillow",
)  # fmt: skip


def provenance(context: AnyContext[Any]) -> Provenance:
    """Of everything made from this recipe and data."""
    return Provenance(
        recipe=context.recipe.name,
        recipe_sha256=recipe_sha256(context.recipe),
        data=context.sources,
        tools=tool_versions(),
        git_commit=git_commit(),
    )


def tool_versions() -> dict[str, str]:
    """Package -> version, of those that are installed."""
    found = {}
    for name in TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def model_card(context: Context, accuracy: Accuracy, auroc: float, *, told: Mapping[str, str] | None = None) -> str:
    """The card that goes into the bundle, as Markdown.

    Args:
        context: the run.
        accuracy: on the test faces.
        auroc: of the face score.
        told: what was made of the student: name -> words.
    """
    recipe, split = context.recipe, context.split
    model = recipe.student.model
    later = "".join(f"\n| {name} | {words} |" for name, words in (told or {}).items())
    return f"""# {recipe.name}

{split.scheme.points} facial landmarks ({split.scheme.name}) and a face score from one square crop of
{model.input_size} x {model.input_size} pixels.

| | |
|---|---|
| network | {model.name}, width {model.width:g} |
| trained with | {recipe.student.loss.name} loss, {recipe.student.train.epochs} epochs, seed {recipe.seed} |{later}
| data | {recipe.data.name}: {len(split.train)} faces for training, {len(split.validation)} for validation |
| terms of the data | {split.licence} |
| licence of the weights | {recipe.weights_licence} |
| NME on {len(split.test)} test faces | {accuracy.nme:.2f} % (median {accuracy.median:.2f} %, FR@0.1
{accuracy.fr:.2f} %, AUC@0.1 {accuracy.auc:.3f}) |
| face score | AUROC {auroc:.4f} against crops without a well-placed face |

NME is the mean landmark distance over the distance of the outer eye corners, with ground-truth boxes.

## Limits
- It expects the box convention of the manifest: a square of 1.25 x the landmarks' bounding box. Other boxes cost
accuracy.
- Trained on the faces named above, turned by at most {recipe.augment.rotation:g} degrees. Profiles, masks and very
dark pictures are rare there.
- The share of ages, skin tones and genders follows the data set; errors were not measured per group.
- It finds landmarks. It does not recognise people, and must not be used to infer who they are or what they feel.
"""


def chain_card(context: ChainContext, figures: Mapping[str, float]) -> str:
    """The card of a chain's bundle, as Markdown."""
    recipe, split = context.recipe, context.split
    parts = {"relocalize": recipe.stages.relocalize, "uniformize": recipe.stages.uniformize}
    networks = {name: spec.model for name, spec in parts.items() if spec is not None}
    networks["landmarks"] = recipe.stages.landmarks.model
    rows = "\n".join(
        f"| stage {name} | {model.name}, width {model.width:g}, {model.input_size} px |"
        for name, model in networks.items()
    )
    return f"""# {recipe.name}

{split.scheme.points} facial landmarks ({split.scheme.name}) and the head's pose, for faces in bad
conditions: loose boxes, few pixels, bad light, noise. After RULe (Dapogny et al., FG 2023).

| | |
|---|---|
{rows}
| seed | {recipe.seed} |
| data | {recipe.data.name}: {len(split.train)} faces for training, {len(split.validation)} for validation |
| terms of the data | {split.licence} |
| licence of the weights | {recipe.weights_licence} |
| NME on {len(split.test)} clean test faces | {figures["nme"]:.2f} % (median {figures["median"]:.2f} %) |

## Limits
- Pictures that stage uniformize makes are for the stage after it. They show what is likely, not what was there: never
show them as photographs of someone.
- The share of ages, skin tones and genders follows the data set; errors were not measured per group.
- It finds landmarks. It does not recognise people, and must not be used to infer who they are or what they feel.
"""
