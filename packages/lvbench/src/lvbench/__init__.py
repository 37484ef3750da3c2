"""LV-Bench manifests and storyworld, a synthetic world whose truth is known."""
