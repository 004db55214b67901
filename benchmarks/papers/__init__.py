"""Tables of the papers, beside what was measured here: one file a paper."""
