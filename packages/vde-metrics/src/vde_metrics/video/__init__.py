"""Reading videos: files and frames in memory, one frame at a time."""
