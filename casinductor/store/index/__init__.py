"""What this machine knows of a store: its private catalog, and the content of caches as unions.

Invariant: all SQL on the catalog is in this folder.
"""
