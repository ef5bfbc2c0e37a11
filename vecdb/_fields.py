"""
The vector fields of a collection: one without a name, or several by name, as callers give and get their vectors.

A collection made with `dim` takes arrays, one made with `vectors` takes dicts of arrays. Immutable; any thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecdb._convert import as_rows
from vecdb.errors import InvalidArgument
from vecdb.index import CoreIndex
from vecdb.storage.effects import FieldRows
from vecdb.storage.framing import FieldSpec
from vecdb.types import VectorConfig


class Fields:
    """
    The fields in the order of their numbers.
    """

    def __init__(self, specs: Sequence[FieldSpec]) -> None:
        self.specs: tuple[FieldSpec, ...] = tuple(specs)
        self.are_named: bool = self.specs[0].name != ""

    @property
    def only(self) -> FieldSpec:
        """
        The field of a collection made with `dim`.
        """
        if self.are_named:
            raise InvalidArgument(f"the collection has named vectors ({self._names()}): its `vectors` tell dim and metric of each")
        return self.specs[0]

    def using(self, name: object) -> FieldSpec:
        """
        Return the field that `using` names; it may be None where there is only one.
        """
        if name is None and len(self.specs) == 1:
            return self.specs[0]
        found = next((spec for spec in self.specs if self.are_named and isinstance(name, str) and spec.name == name), None)
        if found is not None:
            return found
        if not self.are_named:
            raise InvalidArgument(f"using is {name!r}, but this collection has one vector without a name: leave using out")
        raise InvalidArgument(f"using is {name!r}, expected the name of the vector to search: one of {self._names()}")

    def configs(self) -> dict[str, VectorConfig]:
        """
        Return the options of the fields by name.
        """
        return {
            spec.name: VectorConfig(
                spec.dim, metric=spec.metric, m=spec.m, ef_construction=spec.ef_construction, quantization=spec.quantization, seed=spec.seed
            )
            for spec in self.specs
        }

    def rows(self, vectors: Any, count: int, *, single: bool) -> dict[int, FieldRows]:
        """
        Return the checked vectors of count points by the number of their field; InvalidArgument names the row at fault.
        """
        if not self.are_named:
            spec = self.specs[0]
            return {spec.number: FieldRows(*as_rows(vectors, count, dim=spec.dim, metric=spec.metric, single=single))}
        if vectors is None:
            return {}
        by_name = vectors if isinstance(vectors, Mapping) else self._by_name(vectors, count)
        names = {spec.name for spec in self.specs}
        unknown = [name for name in by_name if name not in names]
        if unknown:
            raise InvalidArgument(f"vectors name {unknown[0]!r}, which is no vector of this collection: it has {self._names()}")
        rows: dict[int, FieldRows] = {}
        for spec in self.specs:
            given = by_name.get(spec.name)
            if given is not None:
                what = f"vectors[{spec.name!r}]"
                rows[spec.number] = FieldRows(*as_rows(given, count, dim=spec.dim, metric=spec.metric, single=single, what=what))
        return rows

    def _by_name(self, vectors: Any, count: int) -> dict[Any, list[Any]]:
        """
        Return what a list with a dict for each point gives, by name.
        """
        if not isinstance(vectors, (list, tuple)) or not all(row is None or isinstance(row, Mapping) for row in vectors):
            raise InvalidArgument(
                f"vectors are a {type(vectors).__name__}, expected a dict of arrays, or a dict for each point: this collection has "
                f"the vectors {self._names()}"
            )
        if len(vectors) != count:
            raise InvalidArgument(f"{count} ids but {len(vectors)} vectors: expected one dict an id (None for a point without)")
        names = dict.fromkeys(name for row in vectors if row is not None for name in row)
        return {name: [None if row is None else row.get(name) for row in vectors] for name in names}

    def read(self, core: CoreIndex, offsets: Sequence[int] | NDArray[np.uint32]) -> list[Any]:
        """
        Return copies of the vectors of offsets as callers get them: an array or None, or a dict of those that are there.
        """
        if not self.are_named:
            return read_vectors(core, self.specs[0].number, offsets)
        parts = [(spec.name, read_vectors(core, spec.number, offsets)) for spec in self.specs]
        return [{name: rows[place] for name, rows in parts if rows[place] is not None} for place in range(len(offsets))]

    def of(self, vector: Any, spec: FieldSpec) -> Any:
        """
        Return a field's vector out of what `read` gave for a point, None where it has none.
        """
        return vector.get(spec.name) if self.are_named else vector

    def _names(self) -> str:
        return ", ".join(repr(spec.name) for spec in self.specs)


def read_vectors(core: CoreIndex, field: int, offsets: Sequence[int] | NDArray[np.uint32]) -> list[NDArray[np.float32] | None]:
    """
    Return copies of a field's vectors of offsets, None where there is none.
    """
    rows, present = core.get_rows(field, np.asarray(offsets, dtype=np.uint32))
    return [row.copy() if has_one else None for row, has_one in zip(rows, present.tolist(), strict=True)]
