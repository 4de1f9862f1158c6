"""Signatures, roles, and what they keep out."""
