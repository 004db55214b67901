"""Where a bundle comes from: part of the contract (manifest.py)."""

from __future__ import annotations

from pocketface.sdk.measured import Part


class DataSource(Part, frozen=True, kw_only=True):
    """A data set, named and hashed, never by path. What others trained on has only a name and a licence."""

    name: str
    split: str
    faces: int
    sha256: str
    licence: str


class Provenance(Part, frozen=True, kw_only=True):
    """Where the bundle comes from.

    Attributes:
        recipe, recipe_sha256: of the run that trained it; of a bundle that was packed from finished files, the text of
            the contract, and its hash.
        reference: what golden cases come from and variants are compared with: empty for torch fp32; of a bundle that
            was packed, the id of the variant that stands in for it.
    """

    recipe: str
    recipe_sha256: str
    data: tuple[DataSource, ...]
    tools: dict[str, str]
    git_commit: str = ""
    reference: str = ""

    @property
    def reference_text(self) -> str:
        """The reference, for messages."""
        return f"the file {self.reference}" if self.reference else "torch fp32"
