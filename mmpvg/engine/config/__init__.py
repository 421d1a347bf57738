"""What is read from a config, checked in it, and fitted to the host, before a run is built."""
