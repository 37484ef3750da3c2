"""`python -m bdiff`."""

from bdiff.cli import main

main()
