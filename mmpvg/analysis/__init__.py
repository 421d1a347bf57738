"""The papers' analyses of a trained network, with their plots."""
