"""What one inference of a model computes, read from the program that its backend makes of it."""
