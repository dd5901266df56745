"""What `penstock plan` and the question before a long backlog know: samples, limits, and what was measured."""
