"""Run the program: `python -m netmeasure`."""

import sys

from netmeasure.cli import main

if __name__ == "__main__":
    sys.exit(main())
