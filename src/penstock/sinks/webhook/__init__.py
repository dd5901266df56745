"""Results to a URL, signed by Standard Webhooks 1.0.0."""
