"""Results for people: what is printed to a terminal."""
