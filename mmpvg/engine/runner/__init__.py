"""Training loops that resume exactly, their batches, and FSDP."""
