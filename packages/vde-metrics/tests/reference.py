"""Slow versions of the paper's equations, in plain loops."""

import math


def weight(i, n, kind):
    """w_i of Eq. 19, i from 1."""
    return n - i + 1 if kind == "linear" else math.log(n - i + 1)


def vde(m, kind):
    """Eq. 18 with Eq. 17, written with the paper's indices; the denominator is |m_1|."""
    n = len(m)
    total = 0.0
    for i in range(2, n + 1):
        delta = (m[i - 1] - m[0]) / abs(m[0])
        total += weight(i, n, kind) * abs(delta)
    return total


def grey(frame):
    """Luminance of rows of (r, g, b)."""
    return [[0.299 * r + 0.587 * g + 0.114 * b for r, g, b in row] for row in frame]


def laplacian_variance(frame):
    """Var of the 4-neighbour Laplacian with mirrored borders."""
    y = grey(frame)
    h, w = len(y), len(y[0])

    def mirrored(i, n):
        return -i if i < 0 else 2 * (n - 1) - i if i >= n else i

    values = []
    for i in range(h):
        for j in range(w):
            neighbours = sum(
                y[mirrored(i + di, h)][mirrored(j + dj, w)] for di, dj in ((-1, 0), (1, 0), (0, -1), (0, 1))
            )
            values.append(neighbours - 4 * y[i][j])
    mean = sum(values) / len(values)
    return sum((v - mean) ** 2 for v in values) / len(values)


def clarity(frames):
    """Eq. 20 of one chunk."""
    return sum(laplacian_variance(frame) for frame in frames) / len(frames)


def smoothness(frames):
    """Mean over inner frames of 1 - |Y_t - (Y_{t-1} + Y_{t+1}) / 2| / 255."""
    pictures = [grey(frame) for frame in frames]
    scores = []
    for before, middle, after in zip(pictures, pictures[1:], pictures[2:], strict=False):
        errors = [
            abs(m - (b + a) / 2)
            for rows in zip(before, middle, after, strict=True)
            for b, m, a in zip(*rows, strict=True)
        ]
        scores.append(1 - sum(errors) / len(errors) / 255)
    return sum(scores) / len(scores)


def motion_energy(flows):
    """Eq. 21, first form: one flow (rows of (right, down)) for each pair of neighbours."""
    energies = []
    for flow in flows:
        lengths = [math.sqrt(u * u + v * v) for row in flow for u, v in row]
        energies.append(sum(lengths) / len(lengths))
    return sum(energies) / len(energies)


def background(flows, masks, tau):
    """Eq. 24 of one chunk: flows of its pairs, and the background masks of those pairs."""
    phis = []
    for flow, mask in zip(flows, masks, strict=True):
        lengths = [
            math.sqrt(u * u + v * v)
            for flow_row, mask_row in zip(flow, mask, strict=True)
            for (u, v), inside in zip(flow_row, mask_row, strict=True)
            if inside
        ]
        if lengths:
            phis.append(sum(length <= tau for length in lengths) / len(lengths))
    return sum(phis) / len(phis) if phis else None


def cosine(a, b):
    """Cosine of two vectors."""
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def subject(chunks):
    """Eq. 25: scores of chunks of embeddings, in order."""
    first = chunks[0]
    mean = [sum(e[k] for e in first) / len(first) for k in range(len(first[0]))]
    return [sum(cosine(e, mean) for e in chunk) / len(chunk) for chunk in chunks]
