"""Publishing into a store: drafts, packs, manifests, records of warm-ups.

Invariant: what is acknowledged is durable, and nothing visible points at missing data.
"""
