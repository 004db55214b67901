"""What each MIL operation computes, in numpy: one file a group, and `registry` with the table of all of them."""
