"""
The benchmark of the engine: vecdb's core and `Collection.knn` beside stock hnswlib and the libraries a user would pick instead.

`../engine.py` is the command. Every recall comes from one routine (`truth`), whoever found the hits; every ratio from one run.
"""
