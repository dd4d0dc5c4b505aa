"""Statistics of a few runs: aggregates with intervals, profiles, curves. Pure NumPy."""

from __future__ import annotations

from thrifty.stats.aggregate import (
    Interval,
    Statistic,
    bootstrap_interval,
    difference_interval,
    iqm,
    mean,
    median,
    optimality_gap,
    stratified_interval,
)
from thrifty.stats.curves import Band, Curve, align, area, band, final_mean
from thrifty.stats.profiles import performance_profile, probability_of_improvement

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
    "optimality_gap",
    "performance_profile",
    "probability_of_improvement",
    "stratified_interval",
]
