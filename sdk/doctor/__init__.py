"""``pocketface doctor``: what works on this machine, and the command that mends what does not.

`registry` lists the checks, `base` says what a check is, `isolated` runs one in a process of its own, `report` runs
them all, `command` is the subcommand.
"""
