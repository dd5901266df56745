"""`python -m penstock.cli`, for who starts workers from Python."""

from penstock.cli import main

main()
