"""What surrounds a run: where it was made, and what the machine did meanwhile."""
