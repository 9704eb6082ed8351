"""The daemon's HTTP servers: health, metrics, and pages for operators."""
