"""Results and dead letters to the world outside: a database, Slack, webhooks, a user's own sink."""
