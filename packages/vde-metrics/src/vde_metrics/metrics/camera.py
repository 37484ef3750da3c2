"""The motion of the camera, and a subject that moves on its own, estimated from the optical flow."""

import numpy as np
from jaxtyping import Bool, Float, Float32

GRID = 32
"""How many points along the longer side the motion of the camera is fitted to."""
ROUNDS = 10
"""How often the fit is repeated with new weights."""
SUBJECT_TOLERANCES = 2.0
"""A subject moves on its own by more than this many tolerances."""
LARGEST_SHARE, SMALLEST_SHARE = 0.5, 0.005
"""Shares of the picture that a subject may cover."""


def camera_flow(flow: Float32[np.ndarray, "h w 2"]) -> Float32[np.ndarray, "h w 2"]:
    """The part of the flow that comes from the camera: an affine motion by a robust fit.

    Pan, zoom, roll and shear are affine motions. Parallax is not, so it stays in the residual. Pixels that move
    otherwise do not change the fit, as long as they are a minority.

    Args:
        flow: (right, down) in pixels.
    """
    height, width = flow.shape[:2]
    side = max(height, width)
    step = max(1, side // GRID)
    y, x = (np.arange(min(step, length) // 2, length, step) for length in (height, width))
    seen = flow[np.ix_(y, x)].reshape(-1, 2).astype(np.float64)
    down, right = (
        axis.ravel() for axis in np.meshgrid(_centred(y, height, side), _centred(x, width, side), indexing="ij")
    )
    points = np.stack([np.ones(len(seen)), right, down], axis=1)
    made = np.median(seen, axis=0)
    for _ in range(ROUNDS):
        misses = np.hypot(*(seen - made).T)
        # Cauchy weights; their scale is twice the median error, and at least 0.05 pixels
        weighted = points / (1 + (misses / max(2 * np.median(misses), 0.05)) ** 2)[:, None]
        # lstsq instead of solve: in a strip a few pixels high all points lie on one line
        fitted = np.linalg.lstsq(weighted.T @ points, weighted.T @ seen, rcond=1e-12)[0]
        made = points @ fitted
    rows, columns = (_centred(np.arange(length), length, side) for length in (height, width))
    camera = np.empty((height, width, 2), dtype=np.float32)
    for axis, (still, across, along) in enumerate(fitted.T):
        np.add.outer(
            (still + along * rows).astype(np.float32), (across * columns).astype(np.float32), out=camera[..., axis]
        )
    return camera


def moving_subject(residual: Float32[np.ndarray, "h w 2"], *, tolerance: float) -> Bool[np.ndarray, "h w"]:
    """Mask of the largest connected region that moves on its own. The mask is empty if there is none.

    Smaller regions stay background, so that unstable textures and flicker lower the background's score.

    Args:
        residual: optical flow minus `camera_flow`.
        tolerance: tau in Eq. 24, in pixels. A subject moves by more than two of it.
    """
    import cv2

    height, width = residual.shape[:2]
    found = np.zeros((height, width), dtype=bool)
    moving = (cv2.magnitude(*cv2.split(residual)) > SUBJECT_TOLERANCES * tolerance).astype(np.uint8)
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    opened = cv2.morphologyEx(moving, cv2.MORPH_OPEN, brush)
    if np.count_nonzero(opened) < SMALLEST_SHARE * height * width:
        return found
    _, labels, stats, _ = cv2.connectedComponentsWithStats(opened)
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    left, top, wide, high, area = stats[largest]
    if not SMALLEST_SHARE <= area / (height * width) <= LARGEST_SHARE:
        return found
    # the region is widened, because the flow at its rim mixes both motions
    rim = max(1, round(0.01 * float(np.hypot(height, width))))
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * rim + 1, 2 * rim + 1))
    here = np.s_[max(0, top - rim) : top + high + rim, max(0, left - rim) : left + wide + rim]
    found[here] = cv2.dilate((labels[here] == largest).astype(np.uint8), brush)
    return found


def _centred(places: Float[np.ndarray, " n"] | np.ndarray, length: int, side: int) -> Float[np.ndarray, " n"]:
    """Positions along a side, relative to its middle, in units of the picture's longer side."""
    return (places - length / 2) / side
