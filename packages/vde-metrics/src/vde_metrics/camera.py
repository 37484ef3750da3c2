"""Telling a moving camera, and a subject that moves on its own, from the optical flow."""

import numpy as np
from jaxtyping import Bool, Float, Float32

GRID = 32
"""The camera is fitted to so many points along the longer side."""
ROUNDS = 10
LARGEST_SHARE, SMALLEST_SHARE = 0.5, 0.005
"""How much of the picture a subject may cover."""


def camera_flow(flow: Float32[np.ndarray, "h w 2"]) -> Float32[np.ndarray, "h w 2"]:
    """The part of the flow that the camera makes: an affine motion, fitted so that a minority does not count.

    Pan, zoom, roll and shear are affine; parallax is not and stays in the rest.
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
        # Cauchy weights; the scale is the median miss, and at least a twentieth of a pixel
        weighted = points / (1 + (misses / max(2 * np.median(misses), 0.05)) ** 2)[:, None]
        # lstsq and not solve: in a strip a few pixels high the points lie on one line
        fitted = np.linalg.lstsq(weighted.T @ points, weighted.T @ seen, rcond=1e-12)[0]
        made = points @ fitted
    rows, columns = (_centred(np.arange(length), length, side) for length in (height, width))
    camera = np.empty((height, width, 2), dtype=np.float32)
    for axis, (still, across, along) in enumerate(fitted.T):
        np.add.outer(
            (still + along * rows).astype(np.float32), (across * columns).astype(np.float32), out=camera[..., axis]
        )
    return camera


def moving_subject(residual: Float32[np.ndarray, "h w 2"], threshold: float) -> Bool[np.ndarray, "h w"]:
    """The largest connected region that moves on its own by more than ``threshold`` pixels; possibly nothing.

    Smaller regions are left to the background, where boiling texture and flicker must count against it.
    """
    import cv2

    height, width = residual.shape[:2]
    found = np.zeros((height, width), dtype=bool)
    moving = (cv2.magnitude(*cv2.split(residual)) > threshold).astype(np.uint8)
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    opened = cv2.morphologyEx(moving, cv2.MORPH_OPEN, brush)
    if np.count_nonzero(opened) < SMALLEST_SHARE * height * width:
        return found
    _, labels, stats, _ = cv2.connectedComponentsWithStats(opened)
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    left, top, wide, high, area = stats[largest]
    if not SMALLEST_SHARE <= area / (height * width) <= LARGEST_SHARE:
        return found
    # the flow at a subject's rim is a mixture of both motions
    rim = max(1, round(0.01 * float(np.hypot(height, width))))
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * rim + 1, 2 * rim + 1))
    here = np.s_[max(0, top - rim) : top + high + rim, max(0, left - rim) : left + wide + rim]
    found[here] = cv2.dilate((labels[here] == largest).astype(np.uint8), brush)
    return found


def _centred(places: Float[np.ndarray, " n"] | np.ndarray, length: int, side: int) -> Float[np.ndarray, " n"]:
    """Places along a side about its middle, in units of the picture's longer side."""
    return (places - length / 2) / side
