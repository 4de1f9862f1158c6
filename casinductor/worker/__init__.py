"""The worker's own disk: writing files safely, locking, and remembering who brought what.

Invariant: knows neither stores nor torch; what it keeps lies in ``.casinductor`` inside the local
directory and is disposable.
"""

#: The folder of casinductor's own files in a local directory; torch passes over dotted names.
PRIVATE = ".casinductor"
