"""The first day of a new user: unprivileged, with Debian's default PATH."""
