"""
Use the installed package as a newcomer would: write, filter, close, reopen, search.
"""

import tempfile
from pathlib import Path

import vecdb
from vecdb import F

with tempfile.TemporaryDirectory() as directory:
    path = Path(directory) / "films.vecdb"
    with vecdb.open(path) as db:
        films = db.create_collection("films", dim=2)
        films.upsert(["alien", "amelie"], [[1.0, 0.1], [0.1, 1.0]], [{"year": 1979}, {"year": 2001}])
    with vecdb.open(path) as db:
        assert db["films"].search([0.9, 0.2], k=2, filter=F("year") > 1990).ids == ["amelie"]
        print(db, db["films"], vecdb.__file__)
