"""Connections of an instance; imports nothing else from the articles package."""
