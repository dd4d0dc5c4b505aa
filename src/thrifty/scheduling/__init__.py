"""Scheduling many users under deadlines and an energy budget, beside its exact optimum."""

from __future__ import annotations
