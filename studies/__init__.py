"""What was measured once, for a page: ``python -m studies.NAME`` from a checkout. Not part of any wheel."""
