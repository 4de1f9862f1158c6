"""Rewriting and removing: merges, compactions, collections, removals.

Invariant: nothing is deleted before what replaces it is published and the collectors' protocol ran.
"""
