"""Views of faces as batched tensor operations: `crop` (the torch twin of the runtime's resampling), `views` (what to
draw), `photometric` (colour, noise, blur, occlusion), `degrade` and `jpeg` (bad conditions: the torch twin of
benchmarks/data/degrade.py), `label_spec`, `labels` and `previous` (views of labelled pictures, and the mask of the
frame before), `hashing` (randomness as a function of seed, image and view)."""
