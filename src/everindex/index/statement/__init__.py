"""Other people's statements: do they use the vector index, and if not, why not?"""
