"""pocketface.benchmarks: annotated faces in, figures out.

    data/         readers (300-W, WFLW, any tree of .pts files) and synthetic faces
    metrics       NME, FR, AUC, CED, AUROC, calibration
    accuracy      a bundle's variant on annotated faces
    ced           the cumulative error distribution as a picture
    latency       time and memory of the variants, against each other
    machine       what they were measured on
    reports/      report.html
    commands      pocketface eval, bench, schemes, synth
"""
