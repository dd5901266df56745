"""What is counted, traced and logged; one module names every metric."""
