"""Looks at everything that a worker needs, before it is needed, and says what to do about what is wrong."""
