"""Two checkpoints on one test set, image by image."""
