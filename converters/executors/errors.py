"""What a reference executor says when the file is sound and the executor is what falls short."""

from __future__ import annotations

from pocketface.sdk.errors import BundleError


class CannotRunError(BundleError):
    """A reference executor lacks something that a file uses. The file is then not verified, and has not failed."""
