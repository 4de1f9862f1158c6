"""Who is believed: keys, the envelopes that they sign, and whose signature counts for which cache.

Invariant: nothing here knows a store; what cannot be verified is not believed, whatever the reason.
"""
