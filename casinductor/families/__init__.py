"""Families: what the paths of each kind of compile cache are, and where they lie on a worker.

Invariant: everything here is a function of names, bytes and the environment; nothing knows torch,
stores or a worker's files. ``docs/families.md`` says for each family what is shared and why.
"""
