"""Events to outcomes. `pipeline` is the page to read first; it alone knows the order of the stages."""
