"""Cold storms: of many workers that start on a cold cache one compiles and the others wait for it.

Invariant: waiting only saves work. Nobody waits longer than was allowed, no lock is held, no clock
of another machine is believed, and whoever is in doubt compiles.
"""
