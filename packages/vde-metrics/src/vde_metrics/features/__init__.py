"""From frames to scores: batches of frames, features of frames, scores of chunks, and the cache of features."""
