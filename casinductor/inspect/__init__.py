"""What a store holds and what its workers did, for people: tables, explanations, pages.

Invariant: reads the catalog and artifacts as data; writes nothing but what it is asked for, and
never into a store. Joins ``store`` and ``inductor``; only the command line imports it.
"""
