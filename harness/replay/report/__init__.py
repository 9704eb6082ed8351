"""Human-readable results: terminal output and HTML pages."""
