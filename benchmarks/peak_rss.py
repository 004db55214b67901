"""Peak memory of one variant, or chain, measured in a process of its own: ``python -m pocketface.benchmarks.peak_rss``.

The figure holds everything such a process needs: the Python interpreter, numpy, Pillow, the runtime, the model, three
runs. It is an upper bound of what an app spends, and comparable between variants of one format: their difference is the
model's. About 60 MB of it are Python's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from pocketface.sdk.backends.delegates import AUTO
from pocketface.sdk.errors import EnvironmentProblemError

RUNS = 3
TIMEOUT_S = 600


def peak_rss_mb(bundle: str | os.PathLike[str], variant: str, *, threads: int = 1, delegate: str = AUTO) -> float:
    """Peak resident memory of a fresh process that opens a bundle and runs a variant three times.

    Args:
        bundle: folder or ``.pface`` file.
        variant: id, of a chain too, whose stages are all in memory at once.
        threads: threads the runtime may use.
        delegate: what it hands the network to.

    Returns:
        Megabytes (powers of 1000).

    Raises:
        EnvironmentProblemError: the process failed or hung; its last line is in the message.
    """
    # -P: the current folder is no place to import from; a file called numpy.py there would be taken for numpy.
    command = [sys.executable, "-P", "-m", __name__, os.fspath(bundle), variant]
    command += ["--threads", str(threads), "--delegate", delegate]
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise EnvironmentProblemError(f"measuring the memory of {variant} took over {TIMEOUT_S} s") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise EnvironmentProblemError(f"measuring the memory of {variant} failed ({last})")
    return float(json.loads(done.stdout.splitlines()[-1])["peak_rss_mb"])


def own_peak_rss() -> int:
    """Peak resident memory of this process so far, in bytes.

    Linux's ``getrusage`` figure survives ``exec``: in a child of a large process it starts at the parent's size. VmHWM
    of /proc counts from the start of this program, and is taken where it exists.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:  # not Linux
        pass
    return _rusage_peak()


def _rusage_peak() -> int:
    try:
        import resource
    except ImportError as error:  # Windows
        raise EnvironmentProblemError("this system does not tell a process its peak memory") from error
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes there, kilobytes elsewhere


def main() -> None:
    """Print the figure as a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("variant")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--delegate", default=AUTO)
    options = parser.parse_args()
    from pocketface.sdk.any_predictor import predictor_of
    from pocketface.sdk.bundle import open_bundle

    with open_bundle(options.bundle) as bundle:
        predictor = predictor_of(bundle, variant=options.variant, threads=options.threads, delegate=options.delegate)
        import numpy as np

        for _ in range(RUNS):
            for runner in predictor.stages:
                image, *others = (np.zeros(spec.shape, spec.dtype) for spec in runner.stage.inputs)
                names = [spec.name for spec in runner.stage.inputs[1:]]
                runner.predict_tensor(image, dict(zip(names, others, strict=True)))
    print(json.dumps({"peak_rss_mb": own_peak_rss() / 1e6}))


if __name__ == "__main__":
    main()
