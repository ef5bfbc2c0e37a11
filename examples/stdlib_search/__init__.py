"""
Semantic search over the documentation of Python's standard library, built on vecdb.

collecting reads the docstrings, embedding turns text into vectors, store keeps them in a vecdb collection, progress tells how far that is,
command is what a person types at. Only store knows vecdb, only embedding knows the model.
"""
