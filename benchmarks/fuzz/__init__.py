"""Fuzz every reader of files that nobody vouches for; see __main__."""
