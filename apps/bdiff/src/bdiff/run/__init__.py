"""Making videos."""
