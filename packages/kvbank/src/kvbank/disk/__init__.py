"""A bank on disk: a snapshot in one file, or a folder with a journal and a segment for each chunk."""
