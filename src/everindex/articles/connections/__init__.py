"""Connections of an instance; imports nothing else of the articles."""
