"""The real code on a simulated store: any interleaving, stale listings, crashes at every call."""
