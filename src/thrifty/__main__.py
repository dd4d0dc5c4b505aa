"""``python -m thrifty`` is ``thrifty``."""

from __future__ import annotations

import sys

from thrifty.cli import main

if __name__ == "__main__":
    sys.exit(main())
