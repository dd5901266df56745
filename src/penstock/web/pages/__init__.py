"""The console: pages for people, read-only, beside the gateway."""
