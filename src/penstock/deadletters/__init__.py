"""What could not be answered, and its second chance."""
