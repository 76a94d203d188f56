"""The command line of wandbkeras."""
