"""The programs here are run by path and import each other by name; pytest's importlib mode would not find them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
