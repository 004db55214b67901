"""pocketface.benchmarks: annotated faces in, figures out.

- ``data``: readers (300-W, WFLW, any tree of .pts files) and synthetic faces.
- ``metrics``: NME, FR, AUC, CED, AUROC, calibration.
- ``accuracy``: a bundle's variant on annotated faces; ``ced``: its error distribution as a picture.
- ``robustness``: the same on degraded faces, the protocol 300w-degraded.
- ``latency``, ``peak_rss``, ``machine``: time and memory of the variants against each other, and on what.
- ``reports``: report.html.
- ``commands``: pocketface eval, bench, schemes, synth.
"""
