"""The first day: what someone new does, as an unprivileged user with Debian's own PATH."""
