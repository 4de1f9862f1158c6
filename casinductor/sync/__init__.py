"""Syncs: publish what a local directory holds and its cache lacks.

``select`` says which paths are the cache's to publish, ``candidates`` which groups of them it
lacks, ``read`` cuts those into blobs, ``run`` joins them and publishes, ``pieces`` says how a file
is cut. Invariant: only groups that are whole and at rest are published, each once per cache.
"""
