"""Garbage for all that takes something from outside: the outcome is a right answer, or a line that says what is wrong.

`pytest tests/fuzz` tries a little of it, always the same; `pytest -m slow tests/fuzz` much more. Other garbage:
`ENDCAP_FUZZ_SEED=7` (any number), more of it: `ENDCAP_FUZZ_TIMES=20`.
"""
