"""``python -m widthwise``: the command line, where its script is not on the path."""

import sys

from widthwise.cli import main

if __name__ == "__main__":
    sys.exit(main())
