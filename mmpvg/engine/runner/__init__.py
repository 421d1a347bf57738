"""Training loops, their batches, and FSDP."""
