"""What every wing may use: figures for people, and what a path lies on.

Invariant: nothing here knows of torch, stores or caches.
"""
