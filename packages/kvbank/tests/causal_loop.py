"""A small video model and loop with the conventions of Self-Forcing's pipeline, for tests.

The conventions, of which this is an implementation of its own: the cache is a list of dicts with keys after RoPE. A
pass writes its chunk behind what is filled, at the same place until `current_start` moves on. A model with a window
(`local_attn_size`, latent frames, the chunk's own among them) drops the oldest tokens behind its sink when a new chunk
does not fit. Every chunk is denoised in a few steps with fresh noise and run once more, clean.
"""

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

HEADS, DH, ROWS, COLUMNS, CHANNELS, LAYERS, ROOM = 2, 16, 2, 3, 3, 2, 21
FRAME = ROWS * COLUMNS
TABLE = 1024


def table(width):
    """Complex rotations of `width` channel pairs at each position."""
    frequency = 10000.0 ** -(torch.arange(width, dtype=torch.float64) / width)
    return torch.polar(torch.ones(TABLE, width, dtype=torch.float64), torch.outer(torch.arange(TABLE), frequency))


def turns(frames, start):
    """Complex rotations of the tokens of some frames."""
    assert start + frames <= TABLE, "beyond the table"
    side = DH // 6
    axes = (torch.arange(start, start + frames), torch.arange(ROWS), torch.arange(COLUMNS))
    places = torch.meshgrid(*axes, indexing="ij")
    widths = (DH // 2 - 2 * side, side, side)
    return torch.cat([table(w)[place.flatten()] for w, place in zip(widths, places, strict=True)], dim=1)[:, None]


def turned(x, by):
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * by).flatten(-2).to(x.dtype)


def heads_attend(query, key, value):
    return scaled_dot_product_attention(*(x.transpose(1, 2) for x in (query, key, value))).transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    def __init__(self, local_attn_size, sink_size):
        super().__init__()
        dim = HEADS * DH
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_q, self.norm_k = nn.RMSNorm(dim), nn.RMSNorm(dim)
        self.head_dim, self.local_attn_size, self.sink_tokens = DH, local_attn_size, sink_size * FRAME
        self.max_attention_size = (ROOM if local_attn_size == -1 else local_attn_size) * FRAME

    def forward(self, x, cache, current_start):
        query, key, value = (
            part.unflatten(2, (HEADS, DH)) for part in (self.norm_q(self.q(x)), self.norm_k(self.k(x)), self.v(x))
        )
        by = turns(x.shape[1] // FRAME, current_start // FRAME)
        query, key = turned(query, by), turned(key, by)
        new, current_end = x.shape[1], current_start + x.shape[1]
        filled, seen, room = int(cache["local_end_index"]), int(cache["global_end_index"]), cache["k"].shape[1]
        if self.local_attn_size != -1 and current_end > seen and filled + new > room:
            gone = filled + new - room
            for name in ("k", "v"):
                rest = cache[name][:, self.sink_tokens + gone : filled].clone()
                cache[name][:, self.sink_tokens : self.sink_tokens + rest.shape[1]] = rest
            filled -= gone
        end = filled + current_end - seen
        cache["k"][:, end - new : end], cache["v"][:, end - new : end] = key, value
        cache["local_end_index"].fill_(end)
        cache["global_end_index"].fill_(current_end)
        shown = slice(max(0, end - self.max_attention_size), end)
        return self.o(heads_attend(query, cache["k"][:, shown], cache["v"][:, shown]))


class CrossAttention(nn.Module):
    def __init__(self):
        super().__init__()
        dim = HEADS * DH
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, x, text, cache):
        if not cache["is_init"]:
            cache |= {"k": self.k(text).unflatten(2, (HEADS, DH)), "v": self.v(text).unflatten(2, (HEADS, DH))}
            cache["is_init"] = True
        return self.o(heads_attend(self.q(x).unflatten(2, (HEADS, DH)), cache["k"], cache["v"]))


class Block(nn.Module):
    def __init__(self, local_attn_size, sink_size):
        super().__init__()
        self.self_attn, self.cross_attn = SelfAttention(local_attn_size, sink_size), CrossAttention()

    def forward(self, x, text, kv_cache, crossattn_cache, current_start):
        x = x + self.self_attn(x, kv_cache, current_start)
        return x + self.cross_attn(x, text, crossattn_cache)


class Model(nn.Module):
    def __init__(self, local_attn_size, sink_size):
        super().__init__()
        dim = HEADS * DH
        self.local_attn_size = local_attn_size
        self.inward, self.level, self.outward = nn.Linear(CHANNELS, dim), nn.Linear(1, dim), nn.Linear(dim, CHANNELS)
        self.last = nn.RMSNorm(dim)
        self.blocks = nn.ModuleList(Block(local_attn_size, sink_size) for _ in range(LAYERS))


class Generator(nn.Module):
    """Estimates clean latents; called with keyword arguments alone, as a pipeline does."""

    def __init__(self, local_attn_size=-1, sink_size=0):
        super().__init__()
        torch.manual_seed(0)
        self.model = Model(local_attn_size, sink_size)
        for each in self.parameters():
            each.data = each.data * 2 if each.ndim > 1 else each.data

    def forward(self, *, noisy, conditional_dict, level, kv_cache, crossattn_cache, current_start):
        frames = noisy.shape[1]
        tokens = noisy.permute(0, 1, 3, 4, 2).flatten(1, 3)
        x = self.model.inward(tokens) + self.model.level(noisy.new_full((1,), level))
        for block, cache, text_cache in zip(self.model.blocks, kv_cache, crossattn_cache, strict=True):
            x = block(x, conditional_dict["prompt_embeds"], cache, text_cache, current_start)
        flow = self.model.outward(self.model.last(x)).unflatten(1, (frames, ROWS, COLUMNS)).permute(0, 1, 4, 2, 3)
        return noisy - level * flow


class Pipeline:
    """The loop. A second call takes the cache of the first one and marks it empty."""

    levels = (1.0, 0.7, 0.3)

    def __init__(self, *, local_attn_size=-1, sink_size=0, num_frame_per_block=3, first_frame_alone=False):
        self.generator = Generator(local_attn_size, sink_size).requires_grad_(False)
        self.num_frame_per_block, self.first_frame_alone = num_frame_per_block, first_frame_alone
        self.kv_cache1 = None

    def text_encoder(self, prompts):
        rows = [
            torch.randn(4, HEADS * DH, generator=torch.Generator().manual_seed(sum(map(ord, each)))) for each in prompts
        ]
        return {"prompt_embeds": torch.stack(rows).to(next(self.generator.parameters()))}

    def _fresh(self, like, batch):
        if self.kv_cache1 is None:
            local = self.generator.model.local_attn_size
            shape = (batch, (ROOM if local == -1 else local) * FRAME, HEADS, DH)
            self.kv_cache1 = [{"k": like.new_zeros(shape), "v": like.new_zeros(shape)} for _ in range(LAYERS)]
            self.crossattn_cache = [{} for _ in range(LAYERS)]
        for cache, text in zip(self.kv_cache1, self.crossattn_cache, strict=True):
            cache |= {name: torch.tensor([0]) for name in ("global_end_index", "local_end_index")}
            text["is_init"] = False

    def inference(self, noise, text_prompts):
        self._fresh(noise, noise.shape[0])
        text, made, start = self.text_encoder(text_prompts), [], 0
        generator = torch.Generator().manual_seed(1)
        lengths = [1] * self.first_frame_alone
        lengths += [self.num_frame_per_block] * ((noise.shape[1] - len(lengths)) // self.num_frame_per_block)
        for frames in lengths:
            common = {
                "conditional_dict": text, "kv_cache": self.kv_cache1, "crossattn_cache": self.crossattn_cache,
                "current_start": start * FRAME,
            }  # fmt: skip
            x = noise[:, start : start + frames]
            for level, after in zip(self.levels, (*self.levels[1:], 0.0), strict=True):
                clean = self.generator(noisy=x, level=level, **common)
                again = torch.randn(clean.shape, generator=generator).to(clean)
                x = (1 - after) * clean + after * again
            self.generator(noisy=x, level=0.0, **common)
            made.append(x)
            start += frames
        return torch.cat(made, dim=1)


def noise_of(frames, batch=1):
    return torch.randn(batch, frames, CHANNELS, ROWS, COLUMNS, generator=torch.Generator().manual_seed(3))
