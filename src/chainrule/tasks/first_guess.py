"""What a restoring network is shown: a first guess of the picture, and what is known.

Mostly the guess is the damaged picture itself. A camera's measurements are no picture
yet; what can be done about that with a formula is done before, and the network learns
the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.data.corruptions import Chain, Damaged, Exposure, Mosaic, Raw

__all__ = ["first_guess"]

Array = np.ndarray[Any, Any]

_PEAK = 255.0


def first_guess(damaged: Damaged, chain: Chain, *, shows_mask: bool = True) -> Array:
    """A network's input: the guess in levels, then channels from 0 to 1.

    | damage | guess | further channels |
    |---|---|---|
    | a mosaic alone | colours by bilinear interpolation | which were not measured |
    | raw data alone | the same, developed | square roots of what was measured |
    | exposure alone | taken back | what was clipped |
    | all else | what was observed | the mask, if something is lost |

    Args:
        shows_mask: whether there are further channels.

    Shapes: pictures (n, h, w, c), lost (n, h, w, m) -> float32 (n, h, w, c + further).

    Example:
        >>> from chainrule.data import Keys
        >>> from chainrule.data.corruptions import parse_corruptions
        >>> chain = parse_corruptions(["mosaic:bayer"])
        >>> grey = np.full((1, 8, 8, 3), 9, np.float32)
        >>> damaged = chain(grey, Keys(0, 0, np.arange(1)))
        >>> guess = first_guess(damaged, chain)
        >>> guess.shape, guess[..., :3].min(), guess[..., :3].max()
        ((1, 8, 8, 6), np.float32(9.0), np.float32(9.0))
    """
    guess, further = damaged.pictures, damaged.lost
    step = chain.steps[0] if len(chain.steps) == 1 else None
    if isinstance(step, Exposure):
        guess, further = step.undone(guess), step.is_clipped(guess)
    elif isinstance(step, (Mosaic, Raw)) and damaged.lost is not None:
        # SciPy's filters take a second to import, and few need them.
        from chainrule.restoration.demosaicking import bilinear

        guess = bilinear(guess, damaged.lost)
        if isinstance(step, Raw):
            guess = step.developed(guess)
            # The noise of a square root hardly depends on how bright it is.
            further = np.sqrt(np.maximum(damaged.pictures, 0) / _PEAK)
    if not shows_mask or further is None:
        return np.ascontiguousarray(guess, np.float32)
    parts: list[Any] = [guess, further]
    return np.concatenate(parts, axis=-1, dtype=np.float32)
