"""Changing the embedding model without a gap: planning it, making the new vectors, comparing, the cut, and the way back."""
