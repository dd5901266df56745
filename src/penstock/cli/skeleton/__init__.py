"""What `penstock init` writes: copied as it is, and checked here like all other code."""
