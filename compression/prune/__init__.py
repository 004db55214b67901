"""Removing what a trained network can do without, before it is fine-tuned: ``registry`` lists the ways."""
