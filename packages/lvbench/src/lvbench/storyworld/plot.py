"""Old import path of ``storyworld.write_plot``."""

from storyworld import ACTIONS, PLACES, SPECIES, Plot, write_plot

__all__ = ["ACTIONS", "PLACES", "SPECIES", "Plot", "write_plot"]
