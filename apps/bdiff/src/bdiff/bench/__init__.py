"""Measurements: what a model gets right, story by story."""
