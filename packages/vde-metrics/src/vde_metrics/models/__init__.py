"""Models behind the metrics: optical flow, image encoders, aesthetic predictors, and given masks and boxes."""
