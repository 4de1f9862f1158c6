"""Benchmarks side by side with the real ``fal.toolkit``: ``make bench``.

Invariant: both sides run in one process, in turns, on the same files; what is printed was measured
in this run. Nothing here is part of the package.
"""
