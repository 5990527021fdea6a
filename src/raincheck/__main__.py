"""``python -m raincheck``, the same as ``raincheck``."""

import sys

from raincheck.cli import main

if __name__ == "__main__":
    sys.exit(main())
