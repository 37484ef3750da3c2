"""Video Drift Error: how much a long video drifts, chunk by chunk."""
