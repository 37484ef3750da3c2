"""The transformer once more, slowly and in float64: written from the architecture, one loop over everything."""

import math

import torch


def linear(weights, name, x):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def layer_norm(x, eps, weight=1.0, bias=0.0):
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight + bias


def rms_norm(x, weight, eps):
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight


def gelu(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def turn(x, position, theta):
    """Rotate each pair of one head's channels as a complex number; x [n dh], position [n 3]."""
    side = 2 * (x.shape[1] // 6)
    widths = (x.shape[1] - 2 * side, side, side)
    speeds = [(axis, theta ** (-2 * i / width)) for axis, width in enumerate(widths) for i in range(width // 2)]
    columns = []
    for pair, (axis, speed) in enumerate(speeds):
        number = torch.complex(x[:, 2 * pair], x[:, 2 * pair + 1])
        number = number * torch.polar(torch.ones(len(x), dtype=x.dtype), position[:, axis].to(x.dtype) * speed)
        columns += [number.real, number.imag]
    return torch.stack(columns, dim=1)


def attend(q, k, v, mask):
    """One head; q [n dh], k and v [m dh], mask [n m] or None."""
    scores = q @ k.T / math.sqrt(q.shape[1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return scores.softmax(-1) @ v


def heads(config, x):
    return x.split(config.head_dim, dim=-1)


def forward(model, latents, levels, prompts, *, chunk_of_frame, position, masks):
    """Velocity of one video.

    Args:
        model: A `ChunkDiT`, for its weights and its config only.
        latents: [c t h w].
        levels: [t].
        prompts: [chunks n d].
        chunk_of_frame: Number of the prompt of each frame.
        position: [tokens 3].
        masks: For each layer [tokens tokens], True where the row sees the column.
    """
    config = model.config
    w = {name: p.detach().double() for name, p in model.state_dict().items()}
    _, t, h, width = latents.shape
    _, p, q = config.patch_size
    spots = [(f, i, j) for f in range(t) for i in range(h // p) for j in range(width // q)]
    cut = [latents.double()[:, f, i * p : i * p + p, j * q : j * q + q].reshape(-1) for f, i, j in spots]
    x = linear(w, "patches.project", torch.stack(cut))
    frame = torch.tensor([f for f, _, _ in spots])
    chunk = torch.as_tensor(chunk_of_frame)[frame]

    half = config.freq_dim // 2
    angle = 1000 * levels.double()[:, None] * torch.tensor([10000 ** (-i / half) for i in range(half)]).double()
    hidden = linear(w, "time.hidden", torch.cat((angle.cos(), angle.sin()), -1))
    embedding = linear(w, "time.out", hidden * hidden.sigmoid())
    time = linear(w, "time.modulation", embedding * embedding.sigmoid()).view(t, 6, config.dim)

    text = torch.zeros(len(prompts), config.text_length, config.text_dim).double()
    text[:, : prompts.shape[1]] = prompts
    text = linear(w, "text.out", gelu(linear(w, "text.hidden", text)))

    for layer in range(config.num_layers):
        at = f"blocks.{layer}."
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (w[f"{at}table"] + time)[frame].unbind(1)
        y = layer_norm(x, config.eps) * (1 + scale) + shift
        query, key, value = linear(w, f"{at}self_attention.qkv", y).chunk(3, -1)
        query = rms_norm(query, w[f"{at}self_attention.norm_q.weight"], config.eps)
        key = rms_norm(key, w[f"{at}self_attention.norm_k.weight"], config.eps)
        mixed = [
            attend(turn(a, position, config.rope_theta), turn(b, position, config.rope_theta), d, masks[layer])
            for a, b, d in zip(*(heads(config, z) for z in (query, key, value)), strict=True)
        ]
        x = x + gate * linear(w, f"{at}self_attention.out", torch.cat(mixed, -1))

        y = layer_norm(x, config.eps, w[f"{at}norm_cross.weight"], w[f"{at}norm_cross.bias"])
        query = linear(w, f"{at}cross_attention.q", y)
        query = rms_norm(query, w[f"{at}cross_attention.norm_q.weight"], config.eps)
        mixed = torch.zeros_like(x)
        for number in range(len(prompts)):
            key, value = linear(w, f"{at}cross_attention.kv", text[number]).chunk(2, -1)
            key = rms_norm(key, w[f"{at}cross_attention.norm_k.weight"], config.eps)
            rows = chunk == number
            parts = zip(*(heads(config, z) for z in (query[rows], key, value)), strict=True)
            mixed[rows] = torch.cat([attend(a, b, d, None) for a, b, d in parts], -1)
        x = x + linear(w, f"{at}cross_attention.out", mixed)

        y = layer_norm(x, config.eps) * (1 + ffn_scale) + ffn_shift
        x = x + ffn_gate * linear(w, f"{at}ffn_out", gelu(linear(w, f"{at}ffn_in", y)))

    shift, scale = (w["head.table"] + embedding[:, None])[frame].unbind(1)
    patches = linear(w, "head.project", layer_norm(x, config.eps) * (1 + scale) + shift)
    velocity = torch.zeros(config.out_channels, t, h, width).double()
    for patch, (f, i, j) in zip(patches, spots, strict=True):
        velocity[:, f, i * p : i * p + p, j * q : j * q + q] = patch.view(p, q, -1).permute(2, 0, 1)
    return velocity
