"""Self-contained HTML pages, in light and dark mode, for phones, desktops and print.

words, scales -> svg (pictures) -> templates, which share `base.css` and `parts.html.j2`
"""
