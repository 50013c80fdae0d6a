"""The index of the words of a collection: what it is, what brings it to its declaration, and doing it."""
