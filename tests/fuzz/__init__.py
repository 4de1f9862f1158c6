"""Hostile bytes for every parser that reads a store or a cache directory."""
