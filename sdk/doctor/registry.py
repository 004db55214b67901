"""Every check of ``pocketface doctor``, by name. To add one: write its file, add its line. Listing imports nothing.

The other packages add theirs through the entry-point group ``pocketface.checks``, as other distributions do.
"""

from __future__ import annotations

from pocketface.sdk.registry import Registry

CHECKS = Registry(
    "check",
    {
        "system": "pocketface.sdk.doctor.system:CHECK",
        "packages": "pocketface.sdk.doctor.packages:CHECK",
        "caches": "pocketface.sdk.doctor.caches:CHECK",
        "runtimes": "pocketface.sdk.doctor.runtimes:CHECK",
    },
)
