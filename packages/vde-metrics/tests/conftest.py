import importlib.util
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from vde_metrics import DriftReport, MetricDrift


def write_video(path, frames, *, fps=8, codec="mpeg4"):
    """Encode uint8 frames (t, h, w, 3) in high quality."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 4_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return path


def texture(height, width, *, seed, smooth=2):
    """A smooth random grey picture with full contrast that wraps around at its borders."""
    noise = torch.rand(height, width, generator=torch.Generator().manual_seed(seed))
    frequency = torch.fft.fftfreq(height)[:, None] ** 2 + torch.fft.fftfreq(width)[None] ** 2
    picture = torch.fft.ifft2(torch.fft.fft2(noise) * torch.exp(-2 * (torch.pi * smooth) ** 2 * frequency)).real
    picture = (picture - picture.min()) / (picture.max() - picture.min()) * 255
    return picture.round().byte()[..., None].expand(-1, -1, 3).contiguous()


def panning(num_frames, height, width, *, shift=(1, 2), seed=0):
    """A texture that moves by ``shift`` pixels (down, right) every frame."""
    picture = texture(height, width, seed=seed)
    return torch.stack([picture.roll((t * shift[0], t * shift[1]), (0, 1)) for t in range(num_frames)])


@pytest.fixture(scope="session")
def tools():
    """Makers of test material."""

    class Tools:
        write_video = staticmethod(write_video)
        texture = staticmethod(texture)
        panning = staticmethod(panning)

    return Tools


@pytest.fixture(scope="session")
def reference():
    """The slow references of tests/reference.py."""
    path = Path(__file__).with_name("reference.py")
    spec = importlib.util.spec_from_file_location("vde_metrics_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """A file of 24 panning frames, 48x32, 8 fps."""
    frames = panning(24, 32, 48).numpy()
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", frames)


@pytest.fixture
def unchecked(request):
    """Skip a test of our own errors for wrong types where a type checker refuses the call before us."""
    if request.config.getoption("jaxtyping_packages", None):
        pytest.skip("calls are type-checked")


def _drift(name="clarity", *, scores=(4.0, 2.0, 3.0), vde=1.25, settings="S()", encoder="E 1"):
    return MetricDrift(
        name=name,
        settings=settings,
        scores=scores,
        vde=vde,
        vde_normalized=vde / 3,
        slope=-0.5,
        worst_chunk=1,
        models={"encoder": encoder},
    )


def _report(**changes):
    given_fields = {
        "video": "a.mp4",
        "fps": 8.0,
        "height": 32,
        "width": 48,
        "chunk_frames": (0, 10, 20, 30),
        "weights": "linear",
        "metrics": (_drift(), _drift("motion", scores=(1.0, 1.0, 5.0))),
        "still_pairs": (0.0, 0.5, 0.9),
        "source": {"codec": "h264"},
        "versions": {"torch": "2.0"},
    }
    return DriftReport(**{**given_fields, **changes})


@pytest.fixture(scope="session")
def drift():
    """Makes the drift of one metric."""
    return _drift


@pytest.fixture(scope="session")
def report():
    """Makes a report of two metrics; fields may be given."""
    return _report
