"""The toy experiment as an importable module, and the tools of the crash tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # `import toy_counter`, here and in subprocesses
