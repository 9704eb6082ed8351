"""One package per proxy mode; no backend imports another."""
