"""What a worker did between a restore and a sync: seen from outside, without being in its way.

Invariant: what could not be seen is None or said, never zero.
"""
