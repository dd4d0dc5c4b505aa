"""Statistics of a few runs: aggregates with bootstrap intervals, and curves. Pure NumPy."""

from __future__ import annotations

from thrifty.stats.aggregate import (
    Interval,
    Statistic,
    bootstrap_interval,
    difference_interval,
    iqm,
    mean,
    median,
    stratified_interval,
)
from thrifty.stats.curves import Band, Curve, align, area, band, final_mean

__all__ = [
    "Band",
    "Curve",
    "Interval",
    "Statistic",
    "align",
    "area",
    "band",
    "bootstrap_interval",
    "difference_interval",
    "final_mean",
    "iqm",
    "mean",
    "median",
    "stratified_interval",
]
