"""Restores: materialize what a cache holds for this worker and its local directory lacks.

``plan`` says what is wanted, ``local`` what is there already, ``place`` puts blobs where they
belong, ``run`` joins them, and ``zipped`` reads caches that exist only as fal.toolkit's zip.
Invariant: what appears in the local directory is whole, verified and allowed on this worker.
"""
