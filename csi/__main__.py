"""`python -m csi`: see csi/program.py."""

import sys

from csi.program import main

if __name__ == "__main__":
    sys.exit(main())
