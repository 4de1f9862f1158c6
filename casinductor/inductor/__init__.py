"""The only place that knows torch's cache directory; it knows nothing of stores.

Invariant: nothing here imports torch, unpickles, or executes a byte of an artifact.
"""
