"""What the command-line tools call."""
