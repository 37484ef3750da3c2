from hypothesis import settings

# Timings on a shared machine say nothing about the code.
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")
