"""The cases of the ops inside networks."""

CASES = ()
