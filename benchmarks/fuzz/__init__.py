"""Broken bundles by the thousand: ``mutants`` makes them, ``trial`` opens one, ``worker`` keeps a crash from ending the
rest, ``report`` counts.

python -m pocketface.benchmarks.fuzz BUNDLE --mutants 20000 --json fuzz.json
"""
