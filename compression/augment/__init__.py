"""Views of faces as batched tensor operations: `crop` (the torch twin of the runtime's resampling), `views` (what to
draw),
`photometric` (colour, noise, blur, occlusion), `hashing` (randomness as a function of seed, image and view)."""
