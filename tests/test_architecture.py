"""
Imports and includes run downwards only, as docs/architecture.md draws them.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "vecdb"

# Each may import those below it (later in the list) and its own group.
LAYERS: list[set[str]] = [
    {"vecdb"},
    {"vecdb.database"},
    {"vecdb._registry", "vecdb._backing_up"},
    {"vecdb._live"},
    {"vecdb.collection"},
    {"vecdb._upload", "vecdb._reading", "vecdb._exploring", "vecdb._caring"},
    {"vecdb._writing"},
    {"vecdb._searching"},
    {"vecdb._indexing"},
    {"vecdb._handle"},
    {"vecdb._scroll", "vecdb._facet", "vecdb._recommend", "vecdb._groups"},
    {"vecdb._scan"},
    {"vecdb._assemble", "vecdb._query", "vecdb._results", "vecdb._compacting", "vecdb._refreshing", "vecdb._verifying"},
    {"vecdb._state"},
    {"vecdb._declared", "vecdb._block"},
    {"vecdb._contents"},
    {"vecdb._payload_index", "vecdb._resolve"},
    {"vecdb._index_table", "vecdb._index_copying"},
    {"vecdb._index_links", "vecdb._index_image"},
    {"vecdb._frames"},
    {"vecdb._fields"},
    {"vecdb._cursor", "vecdb._tables", "vecdb._workers", "vecdb._progress"},
    {"vecdb._convert", "vecdb._payload_choice", "vecdb._index_entries", "vecdb._index_kinds", "vecdb._one_index", "vecdb._payload_parts"},
    {"vecdb._term_tags"},
    {"vecdb.hnsw"},
    {"vecdb._hnsw_brute", "vecdb._hnsw_kept"},
    {"vecdb._hnsw_common", "vecdb._labelled", "vecdb._atomic"},
    {"vecdb.storage"},
    {"vecdb.filters"},
    {"vecdb.index"},
    {"vecdb._index_graphs", "vecdb._index_copies"},
    {"vecdb._index_calls"},
    {"vecdb._index_types", "vecdb._index_arrays"},
    {"vecdb._crc"},
    {"vecdb.types"},
    {
        "vecdb._interrupt",
        "vecdb._forked",
        "vecdb._background",
        "vecdb._optional",
        "vecdb._ordering",
        "vecdb._columns",
        "vecdb._html",
        "vecdb._arguments",
    },
    {"vecdb.errors"},
]
CORE_IMPORTERS = {"vecdb.index", "vecdb._crc"}
# csrc/: the table of docs/architecture.md; a file may include those above it (earlier here).
CORE_ORDER: list[set[str]] = [
    {"vecdb", "types", "error"},
    {"coding", "crc32c", "reserved", "stable_array", "copy_on_write", "fair_mutex", "workers", "lease_pool", "mixed"},
    {"zeroed_array"},
    {"distance_lanes", "distance_tiles", "distance", "code_lanes", "code_kernels", "code_blocks", "geo_shapes", "geo_polygon"},
    {"codes"},
    {"bitset", "offset_set", "postings", "sorted_runs"},
    {"vectors", "scratch", "near_list", "link_lists"},
    {"graph", "graph_builder", "graph_linking", "graph_repair", "graph_reach", "walk"},
    {"ids", "row_map", "tags", "columns", "geo_column"},
    {"condition"},
    {"link_key"},
    {"search", "scan", "traversal"},
    {"tag_links", "linked_set"},
    {"profile"},
    {"plan", "left_out", "prober"},
    {"calibration", "link_measure"},
    {"link_plan", "link_demand"},
    {"linked_sets", "linked_covers", "linked_sets_work"},
    {"linked_walk"},
    {"field_graph", "field_upkeep", "graph_file"},
    {"indexer"},
    {"field", "searcher", "changes"},
    {"selection_cache"},
    {"index", "index_search", "labelled_content"},
    {"labelled", "labelled_search", "labelled_tags", "labelled_file", "labelled_tag_file"},
    {"guarded", "capi_base", "capi_index", "capi_labelled"},
]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def group_of(module: str) -> str:
    for group in ("vecdb.storage", "vecdb.filters"):
        if module == group or module.startswith(group + "."):
            return group
    return module


def imported_modules(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            if node.module == "vecdb":
                found.update(f"vecdb.{alias.name}" for alias in node.names)
            else:
                found.add(node.module)
    return {name for name in found if name == "vecdb" or name.startswith("vecdb.")}


def layer_of(group: str) -> int:
    return next(level for level, groups in enumerate(LAYERS) if group in groups)


def test_every_python_module_has_a_layer() -> None:
    known = set().union(*LAYERS)
    modules = {group_of(module_of(path)) for path in PACKAGE.rglob("*.py")}
    assert modules - known == set()


def test_imports_run_downwards_only() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        group = group_of(module_of(path))
        for name in imported_modules(path):
            target = group_of(name)
            if target == "vecdb._core" or target == group:
                continue
            if layer_of(target) < layer_of(group):
                wrong.append(f"{module_of(path)} imports {name}")
    assert wrong == []


def test_only_two_modules_import_the_core() -> None:
    importers = {module_of(path) for path in PACKAGE.rglob("*.py") if "vecdb._core" in imported_modules(path)}
    assert importers == CORE_IMPORTERS


def test_filters_know_nothing_but_errors_and_storage_nothing_of_search() -> None:
    allowed = {
        "vecdb.filters": {"vecdb.errors", "vecdb.filters"},
        "vecdb.storage": {"vecdb.errors", "vecdb._crc", "vecdb._background", "vecdb._interrupt", "vecdb.storage"},
    }
    for group, targets in allowed.items():
        for path in (ROOT / Path(*group.split("."))).rglob("*.py"):
            assert {group_of(name) for name in imported_modules(path)} <= targets, path


def test_examples_use_the_public_interface_only() -> None:
    for path in (ROOT / "examples").rglob("*.py"):
        assert {name for name in imported_modules(path) if name.split(".")[-1].startswith("_") or name.startswith("vecdb.storage")} == set()


def included(path: Path) -> set[str]:
    return {Path(name).stem for name in re.findall(r'^#include "([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE)}


def core_level(stem: str) -> int:
    return next(level for level, stems in enumerate(CORE_ORDER) if stem in stems)


def core_files() -> list[Path]:
    return sorted(path for path in (ROOT / "csrc").iterdir() if path.suffix in {".cpp", ".hpp", ".h"})


def test_every_core_file_has_a_level() -> None:
    assert {path.stem for path in core_files()} - set().union(*CORE_ORDER) == set()


def test_core_includes_run_upwards_in_the_table_only() -> None:
    wrong = [
        f"{path.name} includes {name}"
        for path in core_files()
        for name in included(path)
        if name != path.stem and core_level(name) > core_level(path.stem)
    ]
    assert wrong == []


def test_only_tests_of_the_core_include_hnswlib() -> None:
    assert {path.name for path in core_files() if "hnswlib/" in path.read_text(encoding="utf-8")} == set()


def test_rooms_are_small() -> None:
    files = [*PACKAGE.rglob("*.py"), *(ROOT / "examples").rglob("*.py"), *core_files()]
    large = {path.name: lines for path in files if (lines := path.read_text(encoding="utf-8").count("\n")) > 400}
    assert large == {}
