"""The whole system on one machine without any set-up: embedded log, offline Claude, producers, workers, a judge."""
