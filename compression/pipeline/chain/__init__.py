"""A chain's run, stage by stage: train -> inputs -> run."""
