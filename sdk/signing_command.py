"""The subcommand ``sign``, and the options by which ``verify`` asks for a signature."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocketface.sdk.errors import BadInputError
from pocketface.sdk.options import BundlePath, Force, example

if TYPE_CHECKING:
    from pocketface.sdk.signing import Identity, PublicKey

PASSWORD, TOKEN = "POCKETFACE_KEY_PASSWORD", "SIGSTORE_ID_TOKEN"
"""Environment variables: secrets on a command line are seen by everybody on the machine."""

PublicKeyPath = Annotated[
    Path | None,
    typer.Option(
        help="Public key (PEM) of who should have signed the bundle; verified before anything else of it is read.",
        show_default=False,
    ),
]
IdentityName = Annotated[
    str | None,
    typer.Option(
        help="Who should have signed the bundle without a key: a mail address, or the URL of a workflow.",
        show_default=False,
    ),
]
IdentityIssuer = Annotated[
    str | None,
    typer.Option(help="URL of the OpenID Connect provider that vouches for --identity.", show_default=False),
]
Staging = Annotated[bool, typer.Option("--staging", help="Use Sigstore's instance for trying things out.")]
TrustConfig = Annotated[
    Path | None, typer.Option(help="File that describes your own Sigstore instance.", show_default=False)
]


@example("pocketface sign runs/face68/bundle --private-key key.pem")
def sign(
    bundle: BundlePath,
    private_key: Annotated[
        Path | None,
        typer.Option(
            help=f"Elliptic-curve key (PEM): P-256, P-384 or P-521; its password, if any, in ${PASSWORD}.",
            show_default=False,
        ),
    ] = None,
    keyless: Annotated[
        bool,
        typer.Option(
            "--keyless",
            help=f"Sign with an identity by Sigstore, which needs a network: that of ${TOKEN}, of the CI, or a login.",
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Where the signed copy of a .pface file goes.", show_default=False)
    ] = None,
    staging: Staging = False,
    trust_config: TrustConfig = None,
    force: Force = False,
) -> None:
    """Sign a bundle by the OpenSSF model-signing specification."""
    from pocketface.sdk.signing import Keyless, PrivateKey, sign_bundle

    if (private_key is None) == (not keyless):
        raise BadInputError(
            "both --private-key and --keyless" if keyless else "no --private-key and no --keyless",
            expected="one of them",
            next="pocketface sign BUNDLE --private-key KEY",
        )
    signer: PrivateKey | Keyless
    if private_key is not None:
        signer = PrivateKey(private_key, os.environ.get(PASSWORD))
    else:
        signer = Keyless(os.environ.get(TOKEN), staging, trust_config)
    print(f"signed: {sign_bundle(bundle, signer, out=out, force=force)}")


def verifier(
    public_key: Path | None,
    identity: str | None,
    issuer: str | None,
    staging: bool = False,
    trust_config: Path | None = None,
) -> PublicKey | Identity | None:
    """What the options of ``verify`` ask for; None if no signature is asked for.

    Raises:
        BadInputError: half of an identity, or an identity and a key.
    """
    from pocketface.sdk.signing import Identity, PublicKey

    if (identity is None) != (issuer is None):
        raise BadInputError(
            "--identity without --identity-issuer, or the reverse", expected="both", next="Add the other"
        )
    if public_key is not None and identity is not None:
        raise BadInputError("both --public-key and --identity", expected="one of them", next="Leave one away")
    if public_key is not None:
        return PublicKey(public_key)
    return None if identity is None or issuer is None else Identity(identity, issuer, staging, trust_config)


__all__ = ["sign", "verifier"]
