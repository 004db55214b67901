"""A file that was just made -> a candidate for a bundle: its contents audited, its outputs compared with torch."""

from __future__ import annotations

from pocketface.converters.audit import audit
from pocketface.converters.bundle import Candidate
from pocketface.converters.executors.errors import CannotRunError
from pocketface.converters.formats.base import Exported
from pocketface.converters.parity import References, measure
from pocketface.converters.verdict import GATES
from pocketface.sdk.errors import EnvironmentProblemError, PocketfaceError
from pocketface.sdk.manifest import Tolerances


def examine(
    item: Exported,
    *,
    golden: References,
    faces: References | None = None,
    tolerances: Tolerances | None = None,
    normaliser: tuple[int, int] = (36, 45),
) -> Candidate:
    """Audit and compare.

    Args:
        item: the file.
        golden, faces: what torch gives.
        tolerances: default: those of its precision in ``GATES``.
        normaliser: the two landmarks whose distance normalises errors.

    Returns:
        A candidate. What its runtime refuses is one of its problems, so that one bad file does not end a run; what a
        reference executor lacks leaves it unverified.

    Raises:
        EnvironmentProblemError: a package that is needed to read or run the file is missing.
    """
    bounds = tolerances or GATES.get(item.precision, Tolerances())
    problems = audit(item, item.format, item.precision).problems
    try:
        result = measure(item, golden=golden, faces=faces, tolerances=bounds, normaliser=normaliser)
    except EnvironmentProblemError:
        raise
    except CannotRunError as error:
        return Candidate(item, None, bounds, problems=problems, unrun=str(error))
    except PocketfaceError as error:
        return Candidate(item, None, bounds, problems=(*problems, str(error)))
    return Candidate(item, result, bounds, problems=problems)
