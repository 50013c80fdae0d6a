"""The passages of the articles' whole texts: cut, stored as a collection of their own, and kept in step with the texts."""
