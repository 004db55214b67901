"""What becomes of a recipe's student before it is exported: student [-> pruned] [-> qat]. The last one ships."""

from __future__ import annotations

from pocketface.compression.pipeline.context import Context
from pocketface.compression.pipeline.prune import PRUNED, prune_report, prune_stage
from pocketface.compression.pipeline.qat import QAT, qat_report, qat_stage
from pocketface.compression.pipeline.train import Trained, train_stage
from pocketface.compression.recipe import Recipe

STUDENT = "student"


def lineage_names(recipe: Recipe) -> list[str]:
    """Names of the networks, in their order."""
    later = {PRUNED: recipe.prune, QAT: recipe.qat}
    return [STUDENT, *(name for name, spec in later.items() if spec is not None)]


def lineage(context: Context, last: str = "") -> list[Trained]:
    """Train the student, then whatever the recipe makes of it.

    Args:
        context: the run.
        last: where to stop; default: at the end.
    """
    recipe = context.recipe
    names = lineage_names(recipe)
    wanted = names[: names.index(last) + 1] if last else names
    found = [train_stage(context, STUDENT, recipe.student)]
    if PRUNED in wanted and recipe.prune is not None:
        found.append(prune_stage(context, found[-1], recipe.prune))
    if QAT in wanted and recipe.qat is not None:
        found.append(qat_stage(context, found[-1], recipe.qat))
    return found


def told(context: Context, line: list[Trained]) -> dict[str, str]:
    """What every later step did, in words, by its network's name."""
    recipe, found = context.recipe, {}
    for trained in line:
        if trained.name == PRUNED:
            found[PRUNED] = f"{prune_report(trained)}; fine-tuned for {trained.spec.train.epochs} epochs"
        elif trained.name == QAT and recipe.qat is not None:
            report = qat_report(context, trained, recipe.qat)
            found[QAT] = f"{report}; trained so for {trained.spec.train.epochs} epochs"
    return found
