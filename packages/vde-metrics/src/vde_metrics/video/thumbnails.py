"""Small pictures for the HTML page."""

import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

WIDTH, MAX_HEIGHT = 112, 112
QUALITY = 80


def thumbnail(frame: UInt8[Tensor, "h w 3"]) -> bytes:
    """Shrink the frame to at most 112x112 pixels and encode it as a JPEG."""
    import cv2

    height, width = frame.shape[:2]
    scale = min(WIDTH / width, MAX_HEIGHT / height)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    pixels = frame.permute(2, 0, 1)[None].float().cpu()
    small = F.interpolate(pixels, size=size, mode="bilinear", antialias=True)[0].round().clamp(0, 255).byte()
    done, data = cv2.imencode(".jpg", small.permute(1, 2, 0).flip(-1).numpy(), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise RuntimeError("OpenCV cannot encode JPEG: this build of it has no JPEG support")
    return bytes(data)
