"""What a worker tells about itself while it works: metrics and health on a port of its own."""
