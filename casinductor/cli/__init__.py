"""The command line: one file per command, results on stdout, faults in one line on stderr.

Invariant: no module here is imported by any other part of the package, and none imports torch,
rich or the library itself before its command runs.
"""
