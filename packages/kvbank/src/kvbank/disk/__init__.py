"""A bank on disk: in one file, or in a folder that it lives in."""
