"""
Salvage: of a damaged database what verifies is kept, in files made anew; the damaged ones are set aside and never removed.

Invariant: nothing is written into a damaged file. A damaged collection is moved whole into `salvaged-<n>/`, read there, and what is left of
it takes its place in one rename; cut anywhere, it can be done again. Thread rule: one thread, under the writer's lock, nothing open.
"""

from __future__ import annotations

import re
from contextlib import suppress
from itertools import count
from pathlib import Path

from vecdb.errors import Corruption, InternalError
from vecdb.storage import files
from vecdb.storage.collection_writer import CollectionWriter
from vecdb.storage.effects import Effects, PointId
from vecdb.storage.findings import Findings
from vecdb.storage.framing import Catalog, Manifest, read_catalog, read_current, read_declared, read_manifest, write_catalog, write_declared
from vecdb.storage.log_survivors import newest_generation, surviving_calls
from vecdb.storage.page_walk import PageWalk
from vecdb.storage.points import FILE_NAME
from vecdb.storage.recovery import COLLECTION, generation_directory, log_directory, written_but_unnamed
from vecdb.storage.survivors import Survivors
from vecdb.storage.verify import FileVerification

CATALOG_NAME = "CATALOG"
_SALVAGED = re.compile(r"salvaged-(\d+)")
_GENERATION = re.compile(r"gen-(\d+)")


def salvage_database(path: Path, findings: Findings) -> None:
    """
    Verify all files of a database and replace what is damaged by what is left of it; without damage nothing changes.
    """
    salvage = _Salvage(path, findings)
    stored = salvage.catalog()
    catalog = salvage.completed(stored)
    names = dict(catalog.names)
    for name, number in sorted(catalog.names.items(), key=lambda entry: entry[1]):
        if not salvage.collection(name, number):
            del names[name]
    if names != stored.names:
        write_catalog(path / CATALOG_NAME, Catalog(names, catalog.next_number))


class _Salvage:
    def __init__(self, path: Path, findings: Findings) -> None:
        self._path = path
        self._findings = findings
        self._aside: Path | None = None

    def catalog(self) -> Catalog:
        """
        Return the catalog; a new one, with made-up names, when it is damaged.
        """
        path = self._path / CATALOG_NAME
        if files.exists(path):
            try:
                return read_catalog(path)
            except Corruption as error:
                self._findings.problem(str(error))
            self._set_aside(CATALOG_NAME)
        else:
            self._findings.problem(f"{path} is missing")
        numbers = sorted(int(match[1]) for name in files.list_directory(self._path) if (match := COLLECTION.fullmatch(name)))
        catalog = Catalog({f"salvaged-{number}": number for number in numbers}, max(numbers, default=-1) + 1)
        if numbers:
            self._findings.problem(f"{self._path}: the names of collections are lost; they are called {', '.join(catalog.names)} now")
        write_catalog(path, catalog)
        return catalog

    def completed(self, catalog: Catalog) -> Catalog:
        """
        Return the catalog with made-up names for the collections that it is too old to name.
        """
        names = dict(catalog.names)
        unnamed = written_but_unnamed(self._path, catalog)
        for number in unnamed:
            name = next(name for i in count() if (name := f"salvaged-{number}" + (f"-{i}" if i else "")) not in names)
            self._findings.problem(f"{self._path / CATALOG_NAME} is too old to name c-{number}, which is called {name} now")
            names[name] = number
        return Catalog(names, max(unnamed, default=catalog.next_number - 1) + 1)

    def collection(self, name: str, number: int) -> bool:
        """
        Replace a collection that is damaged by what is left of it; False when that is nothing.
        """
        directory = self._path / f"c-{number}"
        if files.exists(directory):
            _refuse_newer(directory)
            found = Findings()
            verification = FileVerification(directory, found)
            verification.run()
            verification.log()
            self._findings.notes += found.notes
            self._findings.counts["points"] += found.counts["points"] if not found.problems else 0
            if not found.problems:
                return True
            for problem in found.problems:
                self._findings.problem(problem)
            source = self._set_aside(directory.name)
        else:
            earlier = self._set_aside_before(directory.name)
            self._findings.problem(f"{directory} is missing" + ("" if earlier is None else f"; it is read from {earlier}"))
            if earlier is None:
                return False
            source = earlier
        return self._rebuild(name, source, directory)

    def _rebuild(self, name: str, source: Path, directory: Path) -> bool:
        manifest: Manifest | None = None
        with Findings().collecting():
            manifest = read_manifest(source / "MANIFEST")
        if manifest is None:
            self._findings.problem(f"collection {name!r}: without its MANIFEST nothing of it can be read; its files are in {source}")
            return False
        made = self._aside_directory() / f"rebuilt-{directory.name}"
        counts = rebuild_collection(source, made, manifest, self._findings)
        files.rename(made, directory)
        files.sync_directory(self._path)
        self._findings.counts["points"] += counts
        self._findings.note(f"collection {name!r} was rebuilt with {counts} points; its damaged files are in {source}")
        return True

    def _aside_directory(self) -> Path:
        if self._aside is None:
            taken = [int(match[1]) for name in files.list_directory(self._path) if (match := _SALVAGED.fullmatch(name))]
            self._aside = self._path / f"salvaged-{max(taken, default=0) + 1}"
            files.make_directory(self._aside)
            files.sync_directory(self._path)
        return self._aside

    def _set_aside(self, name: str) -> Path:
        aside = self._aside_directory()
        files.rename(self._path / name, aside / name)
        files.sync_directory(aside)
        files.sync_directory(self._path)
        return aside / name

    def _set_aside_before(self, name: str) -> Path | None:
        """
        Return where a salvage that was cut has put a collection.
        """
        numbers = [int(match[1]) for entry in files.list_directory(self._path) if (match := _SALVAGED.fullmatch(entry))]
        places = [self._path / f"salvaged-{number}" / name for number in sorted(numbers, reverse=True)]
        return next((place for place in places if files.exists(place)), None)


def rebuild_collection(source: Path, target: Path, manifest: Manifest, findings: Findings) -> int:
    """
    Write what is left of a collection's files into a new collection; return how many points that are.
    """
    generation = _generation(source, findings)
    root = generation_directory(source, generation)
    writer = CollectionWriter(target, manifest)
    try:
        if files.exists(root / FILE_NAME):
            with PageWalk(root / FILE_NAME, findings) as walk:
                survivors = Survivors(root, manifest, walk, findings)
                for ids, payloads, vectors in survivors.batches():
                    writer.upsert(ids, payloads, vectors)
        else:
            survivors = None
            findings.problem(f"{root / FILE_NAME} is missing")
        with findings.collecting():
            _replay(source, manifest, generation, survivors, writer, findings)
        count = writer.store.live_count
    finally:
        writer.close()
    _copy_indexes(source, target, findings)
    check = Findings()
    verification = FileVerification(target, check)
    verification.run()
    verification.log()
    if check.problems:
        raise InternalError(f"what was salvaged does not verify ({check.problems[0]}); please report this. Nothing was removed")
    return count


def _refuse_newer(directory: Path) -> None:
    """
    Raise StorageError for what a newer vecdb wrote: not damage, and none of this one's business.
    """
    if files.exists(directory / "MANIFEST"):
        with suppress(Corruption):
            read_manifest(directory / "MANIFEST")


def _copy_indexes(source: Path, target: Path, findings: Findings) -> None:
    path = source / "INDEXES"
    if files.exists(path):
        try:
            write_declared(target / "INDEXES", read_declared(path))
        except Corruption as error:
            findings.note(f"{error}; the declarations of indexes are lost: declare them again with create_index")


def _generation(source: Path, findings: Findings) -> int:
    """
    Return the generation that counts: by CURRENT, by the log, or the first there is.
    """
    with findings.collecting():
        return read_current(source / "CURRENT").generation
    there = sorted(int(match[1]) for name in files.list_directory(source) if (match := _GENERATION.fullmatch(name)))
    log = log_directory(source)
    named = newest_generation(log) if files.exists(log) else None
    return named if named in there else (there[0] if there else 1)


def _replay(
    source: Path, manifest: Manifest, generation: int, survivors: Survivors | None, writer: CollectionWriter, findings: Findings
) -> None:
    """
    Do what the calls in the log did, by ids: offsets mean nothing any more.
    """
    at: dict[int, PointId] = {}
    base = survivors.next_offset if survivors is not None else 0
    above = survivors.applied_lsn if survivors is not None else None
    for _, effects in surviving_calls(log_directory(source), manifest, generation, above, findings):
        if above is None and effects.put_ids and effects.first_offset < base:
            continue  # the base has it already
        _apply(effects, at, survivors, writer)


def _apply(effects: Effects, at: dict[int, PointId], survivors: Survivors | None, writer: CollectionWriter) -> None:
    if effects.put_ids:
        writer.upsert(effects.put_ids, effects.put_payloads, effects.put_vectors)
        at.update(enumerate(effects.put_ids, effects.first_offset))
    writer.delete(effects.deleted_ids)
    ids: list[PointId] = []
    payloads: list[bytes] = []
    for offset, payload in zip(effects.patch_offsets.tolist(), effects.patch_payloads, strict=True):
        one = at.get(offset)
        if one is None and survivors is not None:
            one = survivors.id_of(offset)
        if one is not None:
            ids.append(one)
            payloads.append(payload)
    writer.set_payloads(ids, payloads)
