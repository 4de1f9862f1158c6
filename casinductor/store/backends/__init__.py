"""Where the bytes of a store lie: a directory, a bucket, or either behind a cache of the host.

Invariant: every backend keeps the contract of ``store.backend``.
"""
