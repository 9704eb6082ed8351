"""The knee of a falling cost curve, beyond which further gains are small: Kneedle. Pure.

Satopaa, Albrecht, Irwin and Raghavan, "Finding a Kneedle in a Haystack", 2011: both axes are scaled to 0..1, and the
knee of a convex, falling curve is its point furthest below the straight line from its first point to its last.
Smoothing and sensitivity are left out, as they are for noisy streams; a sweep has few points.
"""

from __future__ import annotations

from collections.abc import Sequence


def knee(points: Sequence[tuple[float, float]]) -> int | None:
    """The index of the knee of points (delay, cost) in order of delay; None if the curve has none.

    It has none with fewer than three points, without a range of delays, if the cost does not fall, or if no point lies
    below the line.
    """
    if len(points) < 3:
        return None
    (first_x, first_y), (last_x, last_y) = points[0], points[-1]
    if last_x <= first_x or last_y >= first_y:
        return None
    below = [(first_y - y) / (first_y - last_y) - (x - first_x) / (last_x - first_x) for x, y in points]
    best = max(range(len(points)), key=lambda n: (below[n], -n))
    return best if below[best] > 1e-9 else None
