"""Finding damage and mending it.

Invariant: nothing is given up that was not read and found bad by this very process.
"""
