"""Stories and videos to train on."""
