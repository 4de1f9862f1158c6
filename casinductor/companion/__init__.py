"""Beside a worker that knows nothing of us: restore, publish while it runs, tell what it did.

Invariant: the worker's own start waits for the restore alone, its end for one bounded sync, and
nothing that fails here changes what it does or how it ends.
"""
