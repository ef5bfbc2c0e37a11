"""
Draws recall against queries per second: with matplotlib where it is installed, else as an SVG of our own.
"""

from __future__ import annotations

import html
import importlib.util
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from .curves import Sample

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 460, 80, 190, 40, 55
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_LEAST_RECALL = 0.8
_RECALLS = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)


def draw(path: Path, title: str, curves: Mapping[str, Sequence[Sample]]) -> Path | None:
    """
    Write an SVG of the curves, one line an engine, and return where it is; None when no recall is worth drawing.
    """
    kept = {name: [one for one in curve if one.recall >= _LEAST_RECALL] for name, curve in curves.items()}
    kept = {name: curve for name, curve in kept.items() if curve}
    if not kept:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    if importlib.util.find_spec("matplotlib") is not None:
        _draw_with_matplotlib(path, title, kept)
    else:
        path.write_text(svg(title, kept), encoding="utf-8")
    return path


def _draw_with_matplotlib(path: Path, title: str, curves: Mapping[str, Sequence[Sample]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH / 100, _HEIGHT / 100))
    axes = figure.subplots()
    for colour, (name, curve) in zip(_cycle(len(curves)), curves.items(), strict=True):
        axes.plot([_height(one.recall) for one in curve], [one.qps for one in curve], marker="o", markersize=3, color=colour, label=name)
    axes.set_xticks([_height(recall) for recall in _RECALLS], [str(recall) for recall in _RECALLS])
    axes.set_yscale("log")
    axes.set(title=title, xlabel="recall@k", ylabel="queries per second, one thread")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def svg(title: str, curves: Mapping[str, Sequence[Sample]]) -> str:
    """
    Return the picture as text.
    """
    speeds = [one.qps for curve in curves.values() for one in curve]
    low, high = math.floor(math.log10(min(speeds))), math.ceil(math.log10(max(speeds) * 1.01))
    right = max(_height(one.recall) for curve in curves.values() for one in curve)
    left = _height(_LEAST_RECALL)

    def x(recall: float) -> float:
        return _LEFT + (_height(recall) - left) / max(right - left, 1e-9) * (_WIDTH - _LEFT - _RIGHT)

    def y(qps: float) -> float:
        return _HEIGHT - _BOTTOM - (math.log10(qps) - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="15">{html.escape(title)}</text>',
        f'<text x="{_LEFT}" y="{_HEIGHT - 12}">recall@k; upwards: queries per second, one thread</text>',
    ]
    for recall in _RECALLS:
        if _height(recall) <= right:
            parts.append(f'<path d="M{x(recall):.1f} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="#ddd"/>')
            parts.append(f'<text x="{x(recall):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{recall}</text>')
    for power in range(low, high + 1):
        parts.append(f'<path d="M{_LEFT} {y(10.0**power):.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y(10.0**power) + 4:.1f}" text-anchor="end">{10**power if power >= 0 else 10.0**power:,}</text>'
        )
    for place, (colour, (name, curve)) in enumerate(zip(_cycle(len(curves)), curves.items(), strict=True)):
        dots = [(x(one.recall), y(one.qps)) for one in sorted(curve)]
        corners = " ".join(f"{across:.1f},{up:.1f}" for across, up in dots)
        parts.append(f'<polyline points="{corners}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{across:.1f}" cy="{up:.1f}" r="3" fill="{colour}"/>' for across, up in dots]
        height = _TOP + 18 * place
        parts.append(f'<rect x="{_WIDTH - _RIGHT + 12}" y="{height}" width="14" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{_WIDTH - _RIGHT + 32}" y="{height + 6}">{html.escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _height(recall: float) -> float:
    """
    Return nines: recalls near 1 are spread.
    """
    return -math.log10(max(1 - recall, 1e-4))


def _cycle(count: int) -> list[str]:
    return [_COLOURS[place % len(_COLOURS)] for place in range(count)]
