"""vde-metrics: a video whose contrast fades, and one whose contrast stays."""

import torch

from vde_metrics import Clarity, measure, vde

GENERATOR = torch.Generator().manual_seed(0)
PICTURE = torch.randint(0, 256, (48, 64, 3), generator=GENERATOR, dtype=torch.uint8)


def video(fading: float):
    """Sixty frames of a picture that moves to the right; the contrast fades by `fading` until the end."""
    for index in range(60):
        frame = torch.roll(PICTURE, index, dims=1).float()
        faded = frame.mean() + (frame - frame.mean()) * (1 - fading * index / 59)
        yield faded.to(torch.uint8)


for fading in (0.0, 0.5):
    report = measure(video(fading), metrics=[Clarity()], num_chunks=6, num_frames=60)
    scores = report.metrics[0].scores
    print(f"fading by {fading:.0%}: clarity of each chunk {[round(score) for score in scores]}")
    print(f"  VDE {report.metrics[0].vde:.3f}, per unit of weight {report.metrics[0].vde_normalized:.3f}")
    assert report.metrics[0].vde == vde(scores)
assert report.metrics[0].vde > 1
