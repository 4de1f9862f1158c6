"""Content-addressed storage of groups of files on anything that can publish whole objects.

Invariant: nothing here knows torch; kinds, group names and requirements are opaque text.
"""
