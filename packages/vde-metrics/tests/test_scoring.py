import pytest
import torch

from vde_metrics import Clarity, FrameBatch, FrameMetric, Motion


def noise(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("metric", [Clarity(), Motion(), Motion(form="smoothness")], ids=lambda metric: metric.name)
@pytest.mark.parametrize("cut", [1, 2, 3, 5])
def test_features_do_not_depend_on_how_frames_are_batched(tools, metric, cut):
    frames = torch.cat([tools.panning(4, 24, 24, shift=(i, 1), seed=i) for i in range(2)])
    whole = metric.features(FrameBatch(frames))
    first = metric.features(FrameBatch(frames[:cut]))
    second = metric.features(FrameBatch(frames[cut:], start=cut, before=frames[max(0, cut - 2) : cut]))
    assert torch.equal(torch.cat([first, second]).nan_to_num(-1), whole.nan_to_num(-1))
    assert whole.isnan()[:, 0].tolist() == [t < metric.lead for t in range(len(frames))]


@pytest.mark.parametrize("metric", [Clarity(), Motion(), Motion(form="smoothness")])
def test_a_scorer_forgets_the_chunk_it_closed(tools, metric):
    chunks = [tools.panning(4, 24, 24, shift=(i, 1), seed=i) for i in range(3)]
    scorer = metric.scorer()
    streamed = []
    for chunk in chunks:
        for row in metric.features(FrameBatch(chunk)):
            scorer.add(row[None])
        streamed.append(scorer.close_chunk())
    assert streamed == [metric.score(chunk) for chunk in chunks]
    assert scorer.close_chunk() is None


def test_too_short_chunks():
    frames = noise(2, 16, 16, 3)
    with pytest.raises(ValueError, match="motion: a chunk has 1 frame but needs at least 2"):
        Motion().score(frames[:1])
    with pytest.raises(ValueError, match="motion_smoothness: a chunk has 2 frames but needs at least 3"):
        Motion(form="smoothness").score(frames)
    with pytest.raises(ValueError, match="clarity: a chunk has 0 frames but needs at least 1"):
        Clarity().score(frames[:0])


def test_built_in_metrics_stream_and_have_names_of_their_own():
    metrics = [Clarity(), Motion(), Motion(form="smoothness")]
    assert all(isinstance(metric, FrameMetric) for metric in metrics)
    assert [metric.name for metric in metrics] == ["clarity", "motion", "motion_smoothness"]
