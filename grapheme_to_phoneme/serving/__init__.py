"""Servers that answer with a model: how each is started, and what runs inside it."""
