"""The model card of masks."""

from __future__ import annotations

from pocketface.benchmarks.mask_accuracy import MaskAccuracy
from pocketface.benchmarks.reports.text import number
from pocketface.compression.pipeline.segment.context import SegmentContext


def mask_card(context: SegmentContext, accuracy: MaskAccuracy) -> str:
    """The card that goes into the bundle, as Markdown.

    Args:
        context: the run.
        accuracy: of the default variant on the test pictures.
    """
    recipe, split = context.recipe, context.split
    spec, whole = recipe.student, accuracy.whole
    where = "the whole photo" if recipe.data.frame == "image" else "the square around a face's box"
    taught = "the teacher's hints" if spec.hints is not None else "its labels alone"
    rows = "\n".join(f"| {item.name} | {number(item.f1)} | {number(item.iou)} |" for item in whole.classes)
    return f"""# {recipe.name}

A mask of {len(split.classes.names)} classes ({split.classes.name}: {", ".join(split.classes.names)}) over {where}.

| | |
|---|---|
| network | {spec.model.name}, {spec.model.input_size} px |
| trained with | {taught}, {spec.train.epochs} epochs, seed {recipe.seed} |
| data | {recipe.data.name}: {len(split.train)} pictures for training, {len(split.validation)} for validation |
| terms of the data | {split.licence} |
| licence of the weights | {recipe.weights_licence} |
| mIoU on {whole.images} test pictures | {whole.miou:.2f} % pooled, {whole.miou_per_image:.2f} % per image |
| accuracy | {whole.accuracy:.2f} % |

| class | F1 % | IoU % |
|---|---|---|
{rows}

Masks are compared at the size of the stored ones.

## Limits
- It was trained on pictures like those named above: other cameras, light, hair styles and head coverings are rare
there.
- The share of ages, skin tones, genders and hair types follows the data set; errors were not measured per group.
- It says where hair or a part of a face is. It does not recognise people, and must not be used to infer who they are
or what they feel.
"""
