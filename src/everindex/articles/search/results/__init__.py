"""What is made of the hits of a search: re-ranking, selection, grouping, pages by number, facet counts."""
