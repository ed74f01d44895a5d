"""`python -m ftdoctor` is the command `ftdoctor`."""

import sys

# Python puts the current folder first; it may be a stranger's run, whose modules must stay out.
if not sys.flags.safe_path:
    del sys.path[0]

from ftdoctor.cli import main

main()
