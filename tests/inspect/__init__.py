"""Tests of what a store shows to people."""
