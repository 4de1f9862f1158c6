"""What restores, syncs and warm-ups did, as typed records.

Invariant: every number counts what really happened, in bytes, seconds and pieces.
"""
