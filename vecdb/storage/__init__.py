"""
Storage: the log, points and payloads, raw vectors, checkpoints and recovery. Knows nothing of search or filters.
"""
