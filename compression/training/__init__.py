"""Training with Lightning: `faces` (splits and caches), `teachers` (their points for a batch of views), `datamodule`
(views as
batches), `module` (losses and optimiser), `fit` (one network from its recipe to a checkpoint)."""
