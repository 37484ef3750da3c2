"""MUSIQ of pyiqa, RAFT and image transforms of torchvision themselves, on random weights: `./dev vbench_reference`.

Neither goes into the environment of the other tests: both tie torch to their own version.
"""

from itertools import pairwise

import pytest
import torch

from vde_metrics import measure, vbench
from vde_metrics.vbench.encoders import (
    CLIP_MEAN,
    CLIP_STD,
    DINO_MEAN,
    DINO_STD,
    middle_square,
    normalised,
    shorter_side,
)

torchvision = pytest.importorskip("torchvision")
transforms = pytest.importorskip("torchvision.transforms.v2")


def video(num_frames, height, width):
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num_frames, height, width, 3), dtype=torch.uint8, generator=draw)


def as_vbench(frames):
    """VBench's reader gives floats of 0 to 255, [t 3 h w]."""
    return frames.permute(0, 3, 1, 2).float()


@pytest.fixture(scope="module")
def musiq(tmp_path_factory):
    """A file of random weights in the layout of the published one, and the network with them."""
    arch = pytest.importorskip("pyiqa.archs.musiq_arch")
    torch.manual_seed(0)
    network = arch.MUSIQ(pretrained=False).eval()
    path = tmp_path_factory.mktemp("musiq") / vbench.MUSIQ_FILE
    torch.save(network.state_dict(), path)
    return path, network


@pytest.fixture(scope="module")
def raft(tmp_path_factory):
    """A file of random weights in the layout of the published one, and the network with them."""
    torch.manual_seed(0)
    network = torchvision.models.optical_flow.raft_large(weights=None).eval()
    path = tmp_path_factory.mktemp("raft") / vbench.RAFT_FILE
    torch.save(network.state_dict(), path)
    return path, network


@pytest.mark.parametrize("size", [(100, 150), (480, 854), (700, 333)])
def test_imaging_quality_is_that_of_pyiqa_after_vbenchs_resizing(musiq, size):
    path, network = musiq
    frames = video(2, *size)
    pixels = as_vbench(frames)
    if max(size) > 512:
        scale = 512.0 / max(size)
        resize = transforms.Resize(size=(int(scale * size[0]), int(scale * size[1])), antialias=False)
        pixels = resize(pixels)
    with torch.no_grad():
        expected = sum(float(network(frame[None] / 255.0)) for frame in pixels) / len(frames) / 100
    found = vbench.ImagingQuality(model=vbench.PyiqaMUSIQ(path)).score(frames)
    assert found == pytest.approx(expected, rel=1e-4)


def test_musiq_is_measured_chunk_by_chunk(musiq):
    metric = vbench.ImagingQuality(model=vbench.PyiqaMUSIQ(musiq[0]))
    frames = video(6, 64, 96)
    report = measure(frames, metrics=[metric], num_chunks=3, protocol="released")
    assert report.scores["imaging_quality"] == pytest.approx([metric.score(frames[i : i + 2]) for i in (0, 2, 4)])
    assert report.metrics[0].models["model"].startswith("musiq ")


def test_flow_is_that_of_torchvisions_raft_prepared_by_its_own_transforms(raft):
    path, network = raft
    frames = video(3, 128, 136)
    prepare = torchvision.models.optical_flow.Raft_Large_Weights.C_T_V1.transforms()
    pixels = frames.permute(0, 3, 1, 2)
    before, after = prepare(pixels[:-1], pixels[1:])
    with torch.no_grad():
        expected = network(before, after, num_flow_updates=20)[-1].permute(0, 2, 3, 1)
    found = vbench.TorchvisionRAFT(path).flow(frames)
    assert found.shape == (2, 128, 136, 2)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_dynamic_degree_looks_through_raft(raft):
    path, network = raft
    frames = video(4, 125, 131)  # padded to 128x136: less than half of the border above and to the left
    prepare = torchvision.models.optical_flow.Raft_Large_Weights.C_T_V1.transforms()
    padded = torch.nn.functional.pad(as_vbench(frames), (2, 3, 1, 2), mode="replicate").byte()
    moving = 0
    for before, after in pairwise(padded):
        with torch.no_grad():
            flow = network(*prepare(before[None], after[None]), num_flow_updates=20)[-1][0]
        lengths = (flow**2).sum(0).sqrt().flatten().sort(descending=True).values
        moving += float(lengths[: int(0.05 * len(lengths))].mean()) > 6.0 * 125 / 256
    expected = float(moving >= round(4 * len(frames) / 16.0))
    assert vbench.DynamicDegree(flow=vbench.TorchvisionRAFT(path), fps=8.0).score(frames) == expected


@pytest.mark.parametrize("size", [(100, 150), (480, 854), (333, 200), (224, 224)])
def test_frames_are_prepared_as_torchvision_does(size):
    frames = video(2, *size)
    dino = transforms.Compose(
        [transforms.Resize(224, antialias=False), lambda x: x / 255.0, transforms.Normalize(DINO_MEAN, DINO_STD)]
    )
    cubic = transforms.InterpolationMode.BICUBIC
    clip = transforms.Compose(
        [
            transforms.Resize(224, interpolation=cubic, antialias=False),
            transforms.CenterCrop(224),
            lambda x: x / 255.0,
            transforms.Normalize(CLIP_MEAN, CLIP_STD),
        ]
    )
    for frame, pixels in zip(frames, as_vbench(frames)[:, None], strict=True):
        found = normalised(shorter_side(frame, 224, mode="bilinear"), DINO_MEAN, DINO_STD)
        assert torch.allclose(found, dino(pixels), atol=1e-4)
        found = normalised(middle_square(shorter_side(frame, 224, mode="bicubic"), 224), CLIP_MEAN, CLIP_STD)
        assert torch.allclose(found, clip(pixels), atol=1e-4)
