"""Lexicons: obtaining, reading, normalising, splitting and writing them."""
