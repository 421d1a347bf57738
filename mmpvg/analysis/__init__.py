"""The papers' analyses of a trained network, with their plots; each stands in its own module."""
