"""forcing-losses: DMD and SiD lead a student to its teacher. Both model two normal numbers."""

from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

from forcing_losses import distribution_matching_loss, flow_matching_loss, interpolate, score_identity_loss

MEAN, WIDTH = torch.tensor([2.0, -1.0]), torch.tensor([0.4, 1.2])


class BestVelocity(nn.Module):
    """The best velocity for independent normal channels; the parameters are their means and widths."""

    def __init__(self, mean: Tensor, width: Tensor) -> None:
        super().__init__()
        self.mean, self.log_width = nn.Parameter(mean.clone()), nn.Parameter(width.log())

    def forward(self, noisy: Tensor, level: Tensor) -> Tensor:
        """E[noise - clean | noisy] at these levels."""
        t, mean = level[:, None, :, None, None], self.mean[:, None, None, None]
        square = self.log_width.exp()[:, None, None, None].square()
        clean = mean + (1 - t) * square / ((1 - t) ** 2 * square + t**2) * (noisy - (1 - t) * mean)
        return (noisy - clean) / t


figure = Figure(figsize=(6.4, 2.6), layout="constrained")
FigureCanvasAgg(figure)
for axes, loss_of in zip(figure.subplots(1, 2), (distribution_matching_loss, score_identity_loss), strict=True):
    torch.manual_seed(0)
    teacher = BestVelocity(MEAN, WIDTH).requires_grad_(False)
    student, critic = (BestVelocity(torch.zeros(2), torch.ones(2)) for _ in range(2))  # a student uses mean and width
    turns = [torch.optim.Adam(model.parameters(), lr=rate) for model, rate in ((student, 0.1), (critic, 0.2))]
    slower = [torch.optim.lr_scheduler.ExponentialLR(turn, 0.98) for turn in turns]
    path = []
    for _ in range(180):
        z, noise = torch.randn(2, 256, 2, 1, 1, 1)
        made = student.mean[:, None, None, None] + student.log_width.exp()[:, None, None, None] * z
        level = 0.02 + 0.96 * torch.rand(256, 1)
        noisy = interpolate(made.detach(), noise, level)
        flow_matching_loss(critic(noisy, level), made.detach(), noise).backward()
        turns[1].step()
        turns[1].zero_grad()
        loss_of(made, teacher, critic, noise=noise, level=level).backward()
        turns[0].step()
        for turn, schedule in zip(turns, slower, strict=True):
            turn.zero_grad()
            schedule.step()
        path.append(torch.cat((student.mean, student.log_width.exp())).tolist())
    distance = (torch.tensor(path[-1]) - torch.cat((MEAN, WIDTH))).abs().max().item()
    assert distance < 0.1, loss_of.__name__
    axes.plot(path, label=("mean 1", "mean 2", "width 1", "width 2"))
    axes.hlines((*MEAN, *WIDTH), 0, len(path), colors="0.6", linestyles=":")
    axes.set(title=loss_of.__name__, xlabel="step")
axes.legend(fontsize=7, ncols=2, loc=(0.3, 0.2))
figure.savefig(Path("losses-distillation.png"), dpi=90)
