"""Results and dead letters to a Slack channel, as digests that a person wants to read."""
