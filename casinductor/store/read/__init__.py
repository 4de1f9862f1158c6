"""Reading blobs and files from a store, and telling what cannot be read.

Invariant: bytes that come back were verified against the hash they were asked for by.
"""
