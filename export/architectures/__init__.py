"""Architectures of the literature, defined once, exported and checked like any other network."""
