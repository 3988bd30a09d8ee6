"""The book's facts about its chapters, where the tests of exercises find them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "book" / "_extensions"))
