"""`python -m bdiff`."""

from bdiff.cli.main import main

main()
