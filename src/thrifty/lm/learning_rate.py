"""The learning rate over a run: a linear warm-up and half a cosine, or that with a second warm-up.

Links that grow late in a run hardly train under the tail of a cosine. `rewarmed` lets the rate rise
again where restoration begins and fall to its end from there.
"""

from __future__ import annotations

import math

__all__ = ["cosine", "rewarmed"]


def cosine(step: int, *, steps: int, warm_up: int, least: float) -> float:
    """Return the learning rate of a step, as a fraction of its peak.

    step / warm_up in the warm-up, then least + (1 - least) (1 + cos(pi x)) / 2 with x from 0 to 1.

    Args:
        step: from 1.
        steps: of the whole run.
        warm_up: steps of the linear rise, at least 0.
        least: fraction at the end.

    Example:
        >>> [cosine(step, steps=11, warm_up=1, least=0.1) for step in (1, 6, 11)]
        [1.0, 0.55, 0.1]
    """
    if step <= warm_up:
        return step / warm_up
    x = (step - warm_up) / max(1, steps - warm_up)
    return least + (1.0 - least) * (1.0 + math.cos(math.pi * x)) / 2.0


def rewarmed(
    step: int, *, steps: int, warm_up: int, least: float, since: int, peak: float
) -> float:
    """Return the learning rate of a step where it rises once more, as a fraction of its peak.

    Up to `since` the cosine of the whole run; then linearly to `peak` over another warm-up, and
    from there half a cosine to `least`.

    Args:
        step: from 1.
        steps: of the whole run.
        warm_up: steps of either rise.
        least: fraction at the end.
        since: the last step before the second rise.
        peak: fraction that it rises to.

    Example:
        >>> f = lambda step: rewarmed(step, steps=20, warm_up=2, least=0.1, since=10, peak=0.5)
        >>> f(10) == cosine(10, steps=20, warm_up=2, least=0.1), f(12), f(20)
        (True, 0.5, 0.1)
    """
    if step <= since:
        return cosine(step, steps=steps, warm_up=warm_up, least=least)
    low = cosine(since, steps=steps, warm_up=warm_up, least=least) if since else 0.0
    if step - since < warm_up:
        return low + (peak - low) * (step - since) / warm_up
    x = (step - since - warm_up) / max(1, steps - since - warm_up)
    return least + (peak - least) * (1.0 + math.cos(math.pi * x)) / 2.0
