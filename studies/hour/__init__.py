"""An hour of video: time and memory of every chunk."""
