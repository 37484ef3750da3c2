import numpy as np
import pytest
import torch

from vde_metrics import Background, GivenMasks


def walk(tools, num_frames=24, *, size=(64, 96), background=None, seed=5):
    """A square of 20 pixels that walks 2 pixels a frame over a background, and where it is."""
    frames = torch.stack(
        [tools.texture(*size, seed=0) if background is None else background(t) for t in range(num_frames)]
    )
    masks = torch.zeros(num_frames, *size, dtype=torch.bool)
    square = tools.texture(20, 20, seed=seed)
    for t in range(num_frames):
        left = 4 + 2 * t
        frames[t, 20:40, left : left + 20] = square
        masks[t, 20:40, left : left + 20] = True
    return frames, masks


def test_masks_that_do_not_fit(tools):
    frames, masks = walk(tools, 8)
    with pytest.raises(ValueError, match=r"7 masks of \(64, 96\) were given, but frame 7 has"):
        Background(subject=GivenMasks(masks[:7])).score(frames)
    with pytest.raises(ValueError, match=r"8 masks of \(32, 96\) were given"):
        Background(subject=GivenMasks(masks[:, :32])).score(frames)
    with pytest.raises(ValueError, match=r"expected \(frames, height, width\)"):
        GivenMasks(masks[0])
    with pytest.raises(TypeError, match="masks is a list"):
        GivenMasks(masks.tolist())


def test_masks_may_be_mapped_from_disk(tools, tmp_path):
    frames, masks = walk(tools, 8)
    np.save(tmp_path / "masks.npy", masks.byte().numpy())
    mapped = GivenMasks(np.load(tmp_path / "masks.npy", mmap_mode="r"))
    assert Background(subject=mapped).score(frames) == Background(subject=GivenMasks(masks)).score(frames)
    assert mapped.digest == GivenMasks(masks).digest != GivenMasks(~masks).digest
