"""
What points.lmdb says as a whole, the single value of its table `meta`, and the names of the tables.
docs/file_format.md has the bytes.

Values and pure functions; any thread.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vecdb.errors import Corruption

TABLES = (b"meta", b"ids", b"payloads", b"id_blocks", b"live", b"present", b"row_sums", b"changed")
STATE_KEY = b"state"

_state_head = struct.Struct("<16sQQQQQI4x")
_state_field = struct.Struct("<QI4x")


@dataclass(frozen=True, slots=True)
class RowState:
    """
    What is written of a field's rows: how many, and the CRC32C of those behind the last whole block.
    """

    rows: int
    partial_crc: int


@dataclass(frozen=True, slots=True)
class BaseState:
    """
    The single value of the table `meta`: what the file as a whole says.
    """

    uuid: bytes
    generation: int
    applied_lsn: int
    next_offset: int
    live: int
    changed_from: int
    rows: tuple[RowState, ...]

    def encode(self) -> bytes:
        """
        Return the content of the value.
        """
        head = _state_head.pack(
            self.uuid, self.generation, self.applied_lsn, self.next_offset, self.live, self.changed_from, len(self.rows)
        )
        return head + b"".join(_state_field.pack(field.rows, field.partial_crc) for field in self.rows)

    @classmethod
    def decode(cls, content: bytes, where: str) -> BaseState:
        """
        Return the state; raises Corruption naming `where`.
        """
        fields = _state_head.unpack_from(content)[6] if len(content) >= _state_head.size else -1
        if len(content) != _state_head.size + fields * _state_field.size:
            raise Corruption(f"{where}: the state has {len(content)} bytes and says {fields} vector fields")
        uuid, generation, applied_lsn, next_offset, live, changed_from, _ = _state_head.unpack_from(content)
        rows = tuple(RowState(*_state_field.unpack_from(content, _state_head.size + i * _state_field.size)) for i in range(fields))
        return cls(uuid, generation, applied_lsn, next_offset, live, changed_from, rows)
