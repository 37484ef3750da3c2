import torch

from vde_metrics import FrameBatch, Motion


class PixelFlow:
    """A flow that is written in the frames themselves: red is to the right, green is down, 128 is no motion."""

    name = "pixel flow"

    def flow(self, frames):
        return (frames[:-1, ..., :2].float() - 128) / 16


def test_metrics_share_the_flow_of_a_batch(tools):
    class Counting(PixelFlow):
        calls = 0

        def flow(self, frames):
            self.calls += 1
            return super().flow(frames)

    flow = Counting()
    batch = FrameBatch(tools.panning(4, 16, 16))
    assert torch.equal(batch.flow(flow), batch.flow(flow))
    Motion(flow=flow).features(batch)
    assert flow.calls == 1
