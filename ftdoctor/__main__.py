"""`python -m ftdoctor` is the command `ftdoctor`."""

from ftdoctor.cli import main

main()
