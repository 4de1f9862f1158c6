"""What the bytes of a store mean: names, frames, packs, manifests, outlines.

Invariant: nothing here reads a catalog or decides anything; a codec rejects what it cannot trust.
"""
