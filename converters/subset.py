"""A bundle with some of another bundle's variants: what is worth shipping, without what something else beats."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from pocketface.sdk import contract
from pocketface.sdk.bundle import Bundle, open_bundle
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.files import atomic_folder
from pocketface.sdk.manifest import Latency, encode


def subset_bundle(
    bundle: Bundle,
    out: str | os.PathLike[str],
    ids: Sequence[str],
    *,
    default: str,
    name: str = "",
    golden: int = 0,
    latency: Mapping[str, Sequence[Latency]] | None = None,
    force: bool = False,
) -> Path:
    """Write a bundle folder; it appears under its name only when it is complete and its own reader accepts it.

    Args:
        bundle: of a single network.
        out: the folder to write.
        ids: of the variants that are kept, in any order.
        default: one of them: what ``load`` takes when none is named.
        name: of the new bundle (default: the old one's). Its files keep their names.
        golden: how many golden cases are kept, the first ones (0: all). A small bundle may be mostly golden cases.
        latency: variant id -> one entry a thread count, instead of what the manifest has; variants without one keep
            none.
        force: replace what is there.

    Returns:
        ``out``.

    Raises:
        BadInputError: a chain, an id that the bundle does not have, a default that is not kept, or fewer golden cases
            than a network with a state needs, which are two.
        BundleError: a file of the bundle is missing or was changed.
        EnvironmentProblemError: the disk is full.
    """
    manifest = bundle.manifest
    if len(manifest.stages) != 1:
        raise BadInputError(f"bundle {manifest.name!r} is a chain", expected="a bundle of a single network")
    (stage,) = manifest.stages
    known = {variant.id: variant for variant in stage.variants}
    for id in (*ids, default):
        if id not in known:
            raise BadInputError(f"bundle {manifest.name!r} has no variant {id!r}", choices=known)
    if golden < 0 or (golden == 1 and stage.states):
        raise BadInputError(
            f"{golden} golden cases", expected="2 or more" if stage.states else "1 or more, or 0 for all"
        )
    if default not in ids:
        raise BadInputError(f"default {default!r} is not kept", choices=ids)
    kept = [variant for id, variant in known.items() if id in ids]
    if latency is not None:
        kept = [msgspec.structs.replace(variant, latency=tuple(latency.get(variant.id, ()))) for variant in kept]
    changed = msgspec.structs.replace(
        manifest,
        name=name or manifest.name,
        golden=manifest.golden[: golden or None],
        default=default,
        stages=(msgspec.structs.replace(stage, variants=tuple(kept)),),
        allow_unverified=tuple(id for id in manifest.allow_unverified if id in ids),
    )
    contract.check_manifest(changed)
    entries = [*(entry for variant in kept for entry in variant.files), *changed.golden, manifest.card]
    with atomic_folder(out, force=force) as folder:
        for entry in entries:
            target = folder / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.root / entry.path, target)
        (folder / "manifest.json").write_bytes(encode(changed))
        with open_bundle(folder) as written:  # hashes every file
            written.golden()
    return Path(out)
