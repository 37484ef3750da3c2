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


def forward(model, latents, levels, prompts, *, chunk_of_frame, position, masks, past=None, made=None):
    """Velocity of one video.

    Args:
        model: A `ChunkDiT`, for its weights and its config only.
        latents: [c t h w].
        levels: [t].
        prompts: [chunks n d].
        chunk_of_frame: Number of the prompt of each frame.
        position: [tokens 3].
        masks: For each layer [tokens tokens], True where the row sees the column; None: it sees all.
        past: For each layer the keys, values and positions of tokens before these, which see none of these.
        made: A list that gets the keys and values of each layer, before they are turned.
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
        if made is not None:
            made.append((key, value))
        where = position
        if past is not None:
            key, value, where = (torch.cat(both) for both in zip(past[layer], (key, value, position), strict=True))
        mixed = [
            attend(turn(a, position, config.rope_theta), turn(b, where, config.rope_theta), d, masks[layer])
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


def _timesteps(scheduler):
    return [(float(timestep) / 1000, None, None) for timestep in scheduler.timesteps]


class FrameLoop:
    """Chunk-causal sampling written from the published pipelines, frame by frame: what is in the cache, and where.

    Args:
        model: A `ChunkDiT`, for its weights and its config only.
        window: Latent frames that a chunk sees with its own and the sink; None: all.
        sink: Latent frames from the start that are never evicted.
        relative: Positions count from the oldest frame in view (LongLive's infinity mode), and not from the video's
            first frame.
        switch: At a new prompt keep the cache, "recompute" all but the sink of it, or "flush" it but for the sink and
            the last frame.
        context_level: Level that the model is told while the cache is filled.
        guidance: Scale of classifier-free guidance; the branch without the prompt has a cache of its own.
        negative: Prompt of that branch, [n d].
    """

    def __init__(
        self, model, *, window=None, sink=0, relative=False, switch="keep", context_level=0.0, guidance=1.0,
        negative=None,
    ):  # fmt: skip
        self.guidance, self.negative, self.other = guidance, negative, None
        if guidance != 1.0:
            options = {"window": window, "sink": sink, "relative": relative, "context_level": context_level}
            self.other = FrameLoop(model, **options)
        self.model, self.window, self.sink, self.relative = model, window, sink, relative
        self.switch, self.context_level = switch, context_level
        self.cache = []  # per frame: its keys and values in every layer
        self.clean = []  # per frame: its latents
        self.first_shown = 0  # after a flush: frames before it are gone, but for the sink

    def sample(self, texts, noise, steps, *, step_noise=None, scheduler=None):
        """The video of some chunks.

        Args:
            texts: Prompt of each chunk, [n d].
            noise: Initial noise of each chunk, [frames c h w].
            steps: (level told, level, level after) of each step.
            step_noise: ``step_noise(chunk, step)`` is added after each step but the last; None: Euler steps.
            scheduler: ``scheduler(chunk)`` makes a scheduler of diffusers, whose steps are taken instead.
        """
        for chunk, (text, start) in enumerate(zip(texts, noise, strict=True)):
            if chunk and not torch.equal(text, texts[chunk - 1]):
                self.change_prompt(text, [len(part) for part in noise[:chunk]], len(start))
            x = start.double().transpose(0, 1)
            shown = self.shown(len(self.clean), x.shape[1])
            walker = None if scheduler is None else scheduler(chunk)
            for step, (told, level, after) in enumerate(steps if walker is None else _timesteps(walker)):
                velocity, _ = self.run(x, told, text, shown)
                if self.other is not None:
                    null, _ = self.other.run(x, told, self.negative, shown)
                    velocity = null + self.guidance * (velocity - null)
                if walker is not None:
                    x = walker.step(velocity[None], walker.timesteps[step], x[None], return_dict=False)[0][0]
                elif step_noise is None:
                    x = x + (after - level) * velocity
                else:
                    clean, added = x - level * velocity, step_noise(chunk, step) if after else 0.0
                    x = (1 - after) * clean + after * (added.double().transpose(0, 1) if after else 0.0)
            _, made = self.run(x, self.context_level, text, shown)
            if self.other is not None:
                self.other.cache += self.other.run(x, self.context_level, self.negative, shown)[1]
                self.other.clean += list(x.unbind(1))
            self.cache += made
            self.clean += list(x.unbind(1))
        return torch.stack(self.clean, dim=1)

    def shown(self, start, own):
        """Numbers of the frames that a chunk sees."""
        room = start if self.window is None else max(0, self.window - self.sink - own)
        oldest = max(self.first_shown, start - room, min(self.sink, start))
        return [*range(min(self.sink, start)), *range(oldest, start)]

    def run(self, x, level, text, shown):
        """Velocity of frames, and their keys and values frame by frame."""
        _, p, q = self.model.config.patch_size
        rows, columns = x.shape[2] // p, x.shape[3] // q
        first = len(shown) if self.relative else len(self.clean)

        def positions(times):
            return torch.tensor([(t, i, j) for t in times for i in range(rows) for j in range(columns)]).view(-1, 3)

        past = None
        if shown:
            where = positions(range(len(shown)) if self.relative else shown)
            layers = zip(*(self.cache[frame] for frame in shown), strict=True)
            past = [(*(torch.cat(part) for part in zip(*layer, strict=True)), where) for layer in layers]
        made, num = [], x.shape[1]
        velocity = forward(
            self.model, x, torch.full((num,), level, dtype=torch.float64), text[None], chunk_of_frame=[0] * num,
            position=positions(range(first, first + num)), masks=[None] * self.model.config.num_layers, past=past,
            made=made,
        )  # fmt: skip
        per_layer = [list(zip(key.chunk(num), value.chunk(num), strict=True)) for key, value in made]
        return velocity, [list(frame) for frame in zip(*per_layer, strict=True)]

    def change_prompt(self, text, lengths, own):
        """What happens to the cache before the first chunk under a new prompt."""
        if self.switch == "flush":
            self.first_shown = len(self.clean) - 1
        if self.switch != "recompute":
            return
        # The cache holds the frames that the last chunk saw, and its own.
        held = [frame for frame in self.shown(len(self.clean) - lengths[-1], lengths[-1]) if frame >= self.sink]
        first = min([*held, len(self.clean) - lengths[-1]])
        clean, cache = self.clean, self.cache
        self.clean, self.cache = clean[:first], cache[:first]
        start = 0
        for length in lengths:
            if start >= first:
                shown = [*range(min(self.sink, first)), *range(first, start)]
                x = torch.stack(clean[start : start + length], dim=1)
                self.cache += self.run(x, self.context_level, text, shown)[1]
                self.clean += clean[start : start + length]
            start += length
