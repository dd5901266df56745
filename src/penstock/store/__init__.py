"""What a database keeps of results, and what is asked of it."""
