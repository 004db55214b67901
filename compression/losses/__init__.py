"""Losses on landmarks, elementwise: registry (all, by name), assistive, main (KD paper), plain (L1, L2, smooth L1)."""
