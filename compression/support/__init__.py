"""docs/support.md: every registered network x every format x every precision that exists there, as it came out.

``cases`` says what is tried, ``hashes`` what a row depends on, ``table`` makes and stores the rows, ``page`` writes
them.
"""
