"""Run the command line: python -m scratchnet train vae, ... sample, ... encode."""

import sys

from scratchnet.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
