"""A person as the annotator: a local page on which two clips are compared.

The page shows what a learner asked in a run's folder and puts answers there, by
:mod:`thrifty.episodic.label_folder`; learner and page share nothing but that folder. Standard
library only: no web framework, and the page loads nothing from the network.
"""

from __future__ import annotations

from thrifty.labelling.server import LabelServer
from thrifty.labelling.session import Conflict, Session, UnknownQuery, left_side

__all__ = ["Conflict", "LabelServer", "Session", "UnknownQuery", "left_side"]
