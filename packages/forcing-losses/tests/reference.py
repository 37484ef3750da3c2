"""Slow versions of the Self Forcing losses: plain loops over plain numbers, written from the formulas."""

import math

import torch


def sigmoid(logit):
    return 1 / (1 + math.exp(-logit))


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values)


def eq_1(real, fake):
    """The objective of Eq. 1: E[log D(x)] + E[log(1 - D(x~))], with D = sigmoid of a logit."""
    return mean(math.log(sigmoid(r)) for r in real) + mean(math.log(1 - sigmoid(f)) for f in fake)


def discriminator_loss(real, fake, form):
    if form == "relativistic":
        return -mean(math.log(sigmoid(r - f)) for r, f in zip(real, fake, strict=True))
    return -eq_1(real, fake)


def generator_loss(real, fake, form):
    if form == "relativistic":
        return -mean(math.log(sigmoid(f - r)) for r, f in zip(real, fake, strict=True))
    if form == "plain":
        return mean(math.log(1 - sigmoid(f)) for f in fake)
    return -mean(math.log(sigmoid(f)) for f in fake)


def discriminator_gradient(real, fake, form):
    """Derivatives of `discriminator_loss` with respect to each real and each fake logit."""
    if form == "relativistic":
        pairs = [-sigmoid(f - r) / len(real) for r, f in zip(real, fake, strict=True)]
        return pairs, [-pair for pair in pairs]
    return [-sigmoid(-r) / len(real) for r in real], [sigmoid(f) / len(fake) for f in fake]


def generator_gradient(real, fake, form):
    """Derivatives of `generator_loss` with respect to each fake logit."""
    if form == "relativistic":
        return [-sigmoid(r - f) / len(fake) for r, f in zip(real, fake, strict=True)]
    if form == "plain":
        return [-sigmoid(f) / len(fake) for f in fake]
    return [-sigmoid(-f) / len(fake) for f in fake]


def frames_and_elements(shape):
    """Yields each video with the indices of its elements; level and weight belong to (video, frame)."""
    batch, channels, frames, height, width = shape
    for b in range(batch):
        yield (
            b,
            [
                (b, c, t, h, w)
                for c in range(channels)
                for t in range(frames)
                for h in range(height)
                for w in range(width)
            ],
        )


def estimates(x, teacher, critic, noise, level, at):
    """Clean estimates x_t - t v of teacher and critic for one element."""
    t = level[at[0], at[2]].item()
    noisy = (1 - t) * x[at].item() + t * noise[at].item()
    return noisy - t * teacher[at].item(), noisy - t * critic[at].item()


def scale(x, teacher, critic, noise, level, elements):
    """DMD's normaliser of one video: mean |x - clean estimate of the teacher|."""
    return mean(abs(x[at].item() - estimates(x, teacher, critic, noise, level, at)[0]) for at in elements)


def dmd_gradient(x, teacher, critic, noise, level, normalize):
    """Gradient of DMD for each element: clean estimate of the critic minus that of the teacher, over the number."""
    gradient = {}
    for _, elements in frames_and_elements(x.shape):
        divisor = scale(x, teacher, critic, noise, level, elements) if normalize else 1.0
        for at in elements:
            by_teacher, by_critic = estimates(x, teacher, critic, noise, level, at)
            gradient[at] = (by_critic - by_teacher) / divisor / x.numel()
    return gradient


def sid_loss(x, teacher, critic, noise, level, alpha, normalize):
    """SiD: mean of (f_T - f_C) (f_T - x) - alpha (f_T - f_C)^2 over all elements."""
    terms = []
    for _, elements in frames_and_elements(x.shape):
        divisor = scale(x, teacher, critic, noise, level, elements) if normalize else 1.0
        for at in elements:
            by_teacher, by_critic = estimates(x, teacher, critic, noise, level, at)
            gap = by_teacher - by_critic
            terms.append((gap * (by_teacher - x[at].item()) - alpha * gap**2) / divisor)
    return mean(terms)


def gaussian_velocity(noisy, level, location, covariance):
    """Best velocity for data ~ N(location, covariance) at one noisy point [d]: E[noise - clean | noisy], by Bayes."""
    eye = torch.eye(len(location), dtype=noisy.dtype)
    variance = (1 - level) ** 2 * covariance + level**2 * eye
    away = torch.linalg.solve(variance, noisy - (1 - level) * location)
    clean = location + (1 - level) * covariance @ away
    return level * away - clean


def rollout(num_chunks, grid, exits, step, remember, *, noise, last_step_only, detach_memory, last_chunks):
    """A roll-out by recursion, with each cut of the graph written as a detach.

    Args:
        num_chunks: How many chunks.
        grid: Levels, descending to 0.
        exits: The step at which each chunk leaves the grid.
        step: velocity(x, level, memory).
        remember: memory(x, memory) after a chunk.
        noise: Initial latents of each chunk.
        last_step_only: Cut before the last step of each chunk.
        detach_memory: Cut the memory after each chunk.
        last_chunks: Chunks at the end that keep a graph, or None.
    """
    memory, latents = None, []
    for chunk in range(num_chunks):
        x = noise[chunk]
        levels = [*grid[: exits[chunk] + 1], 0.0]
        for i in range(len(levels) - 1):
            if last_step_only:
                x = x.detach()
            x = x + (levels[i + 1] - levels[i]) * step(x, levels[i], memory)
        if last_chunks is not None and chunk < num_chunks - last_chunks:
            x = x.detach()
            memory = None if memory is None else memory.detach()
        memory = remember(x, memory)
        if detach_memory or (last_chunks is not None and chunk < num_chunks - last_chunks):
            memory = memory.detach()
        latents.append(x)
    return latents
