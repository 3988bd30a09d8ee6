"""``python -m segformer_edu``: the same as ``segformer-edu``."""

import sys

from segformer_edu.cli import main

if __name__ == "__main__":
    sys.exit(main())
