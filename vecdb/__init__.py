"""
vecdb: an embeddable, in-process vector database.

Points are an id, a vector and a JSON payload; searches take filters; a write that returned is not lost.

>>> import vecdb
>>> db = vecdb.open(":memory:")
>>> films = db.create_collection("films", dim=2)
>>> films.upsert(["alien", "amelie"], [[1.0, 0.1], [0.1, 1.0]], [{"year": 1979}, {"year": 2001}])
>>> films.search([0.9, 0.2], k=1, filter=vecdb.F("year") < 2000).ids
['alien']
"""

from vecdb.collection import Collection
from vecdb.database import Database, open
from vecdb.errors import (
    AlreadyExists,
    Closed,
    Corruption,
    Forked,
    InvalidArgument,
    InvalidFilter,
    Locked,
    NotFound,
    ReadOnly,
    StorageError,
    VecdbError,
)
from vecdb.filters import F
from vecdb.types import CollectionInfo, FacetHit, Group, Hit, Hits, IndexInfo, Page, Plan, Point, Report, VectorConfig

__version__ = "0.1.0"

__all__ = [
    "AlreadyExists",
    "Closed",
    "Collection",
    "CollectionInfo",
    "Corruption",
    "Database",
    "F",
    "FacetHit",
    "Forked",
    "Group",
    "Hit",
    "Hits",
    "IndexInfo",
    "InvalidArgument",
    "InvalidFilter",
    "Locked",
    "NotFound",
    "Page",
    "Plan",
    "Point",
    "ReadOnly",
    "Report",
    "StorageError",
    "VecdbError",
    "VectorConfig",
    "open",
]
