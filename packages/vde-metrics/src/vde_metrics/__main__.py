"""``python -m vde_metrics`` is the ``vde`` command."""

import sys

from vde_metrics.command_line import main

sys.exit(main())
