"""A machine of the tests' own: user-mode Linux with a disk that can lose power."""
