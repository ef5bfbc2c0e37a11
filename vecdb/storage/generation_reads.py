"""
Reading a store or a generation by the part that knows: the same calls, handed on.

Invariant: nothing is kept here; a call goes to what is present when it is made. Thread rule: any thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vecdb.storage.effects import PointId
from vecdb.storage.overlay import Overlay
from vecdb.storage.store import Generation
from vecdb.storage.view import DiskView, View


class OverlayReads:
    """
    The reads of a generation on disk, by its overlay.
    """

    overlay: Overlay

    @property
    def next_offset(self) -> int:
        """
        The first offset that no applied write has used.
        """
        return self.overlay.next_offset

    @property
    def live_count(self) -> int:
        """
        The number of points.
        """
        return self.overlay.live

    def offsets_of(self, ids: Sequence[PointId]) -> list[int | None]:
        """
        Return each id's offset in the applied state; None where there is no such point.
        """
        return self.overlay.offsets_of(ids)

    def payloads_of(self, offsets: Sequence[int]) -> list[bytes | None]:
        """
        Return each offset's encoded payload; None where the offset is a tombstone by now.
        """
        return self.overlay.payloads_of(offsets)

    def iterate_ids(self, *, after: PointId | None = None) -> Iterator[PointId]:
        """
        Iterate over the ids beyond `after`, ascending, as of this call.
        """
        return self.overlay.iterate_ids(after)

    def iterate_payloads(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """
        Iterate over (offset, encoded payload) of the live offsets in [first, last), ascending, as of this call.
        """
        return self.overlay.iterate_payloads(first, last)

    def view(self) -> DiskView:
        """
        Return the applied state of now, which stays readable.
        """
        return self.overlay.view()


class StoreReads:
    """
    The reads of a store, by its present generation.
    """

    @property
    def generation(self) -> Generation:
        """
        The present generation.
        """
        raise NotImplementedError

    @property
    def next_offset(self) -> int:
        """
        The first offset that no applied write has used.
        """
        return self.generation.next_offset

    @property
    def live_count(self) -> int:
        """
        The number of points.
        """
        return self.generation.live_count

    def offsets_of(self, ids: Sequence[PointId]) -> list[int | None]:
        """
        Return each id's offset in the applied state; None where there is no such point.
        """
        return self.generation.offsets_of(ids)

    def payloads_of(self, offsets: Sequence[int]) -> list[bytes | None]:
        """
        Return each offset's encoded payload; None where the offset is a tombstone by now.
        """
        return self.generation.payloads_of(offsets)

    def iterate_ids(self, *, after: PointId | None = None) -> Iterator[PointId]:
        """
        Iterate over the ids beyond `after`, ascending, as of this call.
        """
        return self.generation.iterate_ids(after=after)

    def iterate_payloads(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """
        Iterate over (offset, encoded payload) of the live offsets in [first, last), ascending, as of this call.
        """
        return self.generation.iterate_payloads(first, last)

    def view(self) -> View:
        """
        Return the applied state of now, which stays readable.
        """
        return self.generation.view()

    def row_file(self, field: int) -> tuple[int, int]:
        """
        Return the descriptor of the field's rows and how many rows are written.
        """
        return self.generation.row_file(field)
