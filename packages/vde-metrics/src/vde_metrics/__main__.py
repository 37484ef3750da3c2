"""``python -m vde_metrics`` is the ``vde`` command."""

import sys

from vde_metrics.cli import main

sys.exit(main())
