"""What a searched table is, whatever stores it: the declaration of its columns, and a hit of it. Pure."""
