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
    step = max(1, max(height, width) // GRID)
    y, x = (axis.ravel() for axis in np.mgrid[step // 2 : height : step, step // 2 : width : step])
    seen = flow[y, x].astype(np.float64)
    points = _terms(x, y, height, width)
    fitted = np.median(seen, axis=0)
    for _ in range(ROUNDS):
        misses = np.linalg.norm(seen - (points @ fitted if fitted.ndim == 2 else fitted), axis=1)
        # Cauchy weights; the scale is the median miss, and at least a twentieth of a pixel
        weight = 1 / (1 + (misses / max(2 * np.median(misses), 0.05)) ** 2)
        root = np.sqrt(weight)[:, None]
        fitted = np.linalg.lstsq(root * points, root * seen, rcond=None)[0]
    rows, columns = np.mgrid[:height, :width]
    made = _terms(columns.ravel(), rows.ravel(), height, width) @ fitted
    return made.reshape(height, width, 2).astype(np.float32)


def moving_subject(residual: Float32[np.ndarray, "h w 2"], threshold: float) -> Bool[np.ndarray, "h w"]:
    """The largest connected region that moves on its own by more than ``threshold`` pixels; possibly nothing.

    Smaller regions are left to the background, where boiling texture and flicker must count against it.
    """
    import cv2

    height, width = residual.shape[:2]
    moving = (np.linalg.norm(residual, axis=-1) > threshold).astype(np.uint8)
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    moving = cv2.morphologyEx(moving, cv2.MORPH_OPEN, brush)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(moving)
    if count < 2:
        return np.zeros((height, width), dtype=bool)
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    share = stats[largest, cv2.CC_STAT_AREA] / (height * width)
    if not SMALLEST_SHARE <= share <= LARGEST_SHARE:
        return np.zeros((height, width), dtype=bool)
    # the flow at a subject's rim is a mixture of both motions
    rim = 2 * max(1, round(0.01 * float(np.hypot(height, width)))) + 1
    region = cv2.dilate((labels == largest).astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (rim, rim)))
    return region.astype(bool)


def _terms(
    x: Float[np.ndarray, " n"] | np.ndarray, y: Float[np.ndarray, " n"] | np.ndarray, height: int, width: int
) -> Float[np.ndarray, "n 3"]:
    """1, x and y, both about the centre in units of the picture's longer side."""
    side = max(height, width)
    return np.stack([np.ones(len(x)), (x - width / 2) / side, (y - height / 2) / side], axis=1)
