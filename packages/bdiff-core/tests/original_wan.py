"""Wan 2.1's autoencoder and text encoder once more, small and plain: in their own names, on whole videos at once."""

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

SILU, DROP = nn.SiLU, nn.Identity


class Conv(nn.Conv3d):
    """A convolution that sees no later frame."""

    def forward(self, x):
        time, rows, columns = ((size - 1) for size in self.kernel_size)
        side = (columns // 2, columns // 2, rows // 2, rows // 2)
        return super().forward(F.pad(x, (*side, time, 0)))


class Norm(nn.Module):
    def __init__(self, dim, *, images=False):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim, 1, 1, *(() if images else (1,))))

    def forward(self, x):
        return F.normalize(x, dim=1) * x.shape[1] ** 0.5 * self.gamma


class Residual(nn.Module):
    def __init__(self, before, after):
        super().__init__()
        self.residual = nn.Sequential(
            Norm(before), SILU(), Conv(before, after, 3), Norm(after), SILU(), DROP(), Conv(after, after, 3)
        )
        self.shortcut = Conv(before, after, 1) if before != after else nn.Identity()

    def forward(self, x):
        return self.residual(x) + self.shortcut(x)


class Attention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm = Norm(dim, images=True)
        self.to_qkv, self.proj = nn.Conv2d(dim, 3 * dim, 1), nn.Conv2d(dim, dim, 1)

    def forward(self, x):
        b, c, t, h, w = x.shape
        images = x.transpose(1, 2).reshape(b * t, c, h, w)
        q, k, v = self.to_qkv(self.norm(images)).flatten(2).transpose(1, 2).chunk(3, -1)
        seen = (q @ k.transpose(1, 2) / math.sqrt(c)).softmax(-1) @ v
        out = self.proj(seen.transpose(1, 2).reshape(b * t, c, h, w))
        return x + out.view(b, t, c, h, w).transpose(1, 2)


def per_image(layers, x):
    b, c, t, h, w = x.shape
    out = layers(x.transpose(1, 2).reshape(b * t, c, h, w))
    return out.view(b, t, *out.shape[1:]).transpose(1, 2)


class Down(nn.Module):
    """Halves a picture and, with `time`, every two frames after the first to one."""

    def __init__(self, dim, *, time):
        super().__init__()
        self.resample = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(dim, dim, 3, stride=2))
        if time:
            self.time_conv = nn.Conv3d(dim, dim, (3, 1, 1), stride=(2, 1, 1))

    def forward(self, x):
        x = per_image(self.resample, x)
        if not hasattr(self, "time_conv") or x.shape[2] == 1:
            return x
        return torch.cat([x[:, :, :1], self.time_conv(x)], dim=2)


class Up(nn.Module):
    """Doubles a picture and, with `time`, makes two frames of every one after the first."""

    def __init__(self, dim, *, time):
        super().__init__()
        if time:
            self.time_conv = Conv(dim, 2 * dim, (3, 1, 1))
        enlarge = nn.Upsample(scale_factor=(2.0, 2.0), mode="nearest-exact")
        self.resample = nn.Sequential(enlarge, nn.Conv2d(dim, dim // 2, 3, padding=1))

    def forward(self, x):
        if hasattr(self, "time_conv") and x.shape[2] > 1:
            first, second = self.time_conv(x[:, :, 1:]).chunk(2, dim=1)
            x = torch.cat([x[:, :, :1], torch.stack([first, second], dim=3).flatten(2, 3)], dim=2)
        return per_image(self.resample, x)


def middle(dim):
    return nn.Sequential(Residual(dim, dim), Attention(dim), Residual(dim, dim))


class Coder(nn.Module):
    def forward(self, x):
        x = self.conv1(x)
        if hasattr(self, "downsamples"):
            return self.head(self.middle(self.downsamples(x)))
        return self.head(self.upsamples(self.middle(x)))


class OriginalVAE(nn.Module):
    """The module whose state `Wan2.1_VAE.pth` is."""

    def __init__(self, *, base=4, channels=4, mult=(1, 2, 4, 4), time=(False, True, True)):
        super().__init__()
        widths = [base * factor for factor in (1, *mult)]
        self.encoder, self.decoder = Coder(), Coder()
        self.encoder.conv1 = Conv(3, widths[0], 3)
        layers = []
        for level, (before, after) in enumerate(pairwise(widths)):
            layers += [Residual(before, after), Residual(after, after)]
            layers += [Down(after, time=time[level])] if level < 3 else []
        self.encoder.downsamples = nn.Sequential(*layers)
        self.encoder.middle = middle(widths[-1])
        self.encoder.head = nn.Sequential(Norm(widths[-1]), SILU(), Conv(widths[-1], 2 * channels, 3))
        self.conv1, self.conv2 = Conv(2 * channels, 2 * channels, 1), Conv(channels, channels, 1)
        widths = [base * factor for factor in (mult[-1], *mult[::-1])]
        self.decoder.conv1 = Conv(channels, widths[0], 3)
        self.decoder.middle = middle(widths[0])
        layers = []
        for level, (before, after) in enumerate(pairwise(widths)):
            before = before // 2 if level else before
            layers += [Residual(before, after), Residual(after, after), Residual(after, after)]
            layers += [Up(after, time=time[::-1][level])] if level < 3 else []
        self.decoder.upsamples = nn.Sequential(*layers)
        self.decoder.head = nn.Sequential(Norm(widths[-1]), SILU(), Conv(widths[-1], 3, 3))

    def encode(self, video):
        return self.conv1(self.encoder(video)).chunk(2, dim=1)[0]

    def decode(self, latents):
        return self.decoder(self.conv2(latents)).clamp(-1, 1)


class TextNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * self.weight


class TextBlock(nn.Module):
    def __init__(self, dim, inner, hidden, heads, buckets):
        super().__init__()
        self.heads, self.buckets = heads, buckets
        self.norm1, self.norm2 = TextNorm(dim), TextNorm(dim)
        self.attn = nn.Module()
        self.attn.q, self.attn.k, self.attn.v = (nn.Linear(dim, inner, bias=False) for _ in range(3))
        self.attn.o = nn.Linear(inner, dim, bias=False)
        self.pos_embedding = nn.Module()
        self.pos_embedding.embedding = nn.Embedding(buckets, heads)
        self.ffn = nn.Module()
        self.ffn.gate = nn.Sequential(nn.Linear(dim, hidden, bias=False), nn.GELU(approximate="tanh"))
        self.ffn.fc1, self.ffn.fc2 = nn.Linear(dim, hidden, bias=False), nn.Linear(hidden, dim, bias=False)

    def bias(self, length):
        """[heads, reader, seen] by how far apart two words are, in buckets that widen."""
        half, table = self.buckets // 2, torch.zeros(length, length, dtype=torch.int64)
        for reader in range(length):
            for seen in range(length):
                far = abs(seen - reader)
                exact = half // 2
                wide = exact + int(math.log(max(far, 1) / exact) / math.log(128 / exact) * (half - exact))
                table[reader, seen] = (far if far < exact else min(wide, half - 1)) + half * (seen > reader)
        return self.pos_embedding.embedding(table).permute(2, 0, 1)

    def forward(self, x):
        y = self.norm1(x)
        q, k, v = (
            part(y).unflatten(-1, (self.heads, -1)).transpose(0, 1) for part in (self.attn.q, self.attn.k, self.attn.v)
        )
        seen = (q @ k.transpose(1, 2) + self.bias(len(x))).softmax(-1) @ v
        x = x + self.attn.o(seen.transpose(0, 1).flatten(1))
        y = self.norm2(x)
        return x + self.ffn.fc2(self.ffn.fc1(y) * self.ffn.gate(y))


class OriginalText(nn.Module):
    """The module whose state `models_t5_umt5-xxl-enc-bf16.pth` is."""

    def __init__(self, words, *, dim=16, inner=8, hidden=24, heads=2, num_layers=2, buckets=32):
        super().__init__()
        self.token_embedding = nn.Embedding(words, dim)
        self.blocks = nn.ModuleList(TextBlock(dim, inner, hidden, heads, buckets) for _ in range(num_layers))
        self.norm = TextNorm(dim)

    def forward(self, ids):
        x = self.token_embedding(ids)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def shaken(module, seed=0):
    """The module with random weights, none of them one or zero."""
    generator = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        p.data = p.data + 0.2 * torch.randn(p.shape, generator=generator)
    return module.eval().requires_grad_(False)


def save_original(folder, tokenizer, words, **text):
    """Write the parts around the transformer as Wan's own folder holds them; returns the two modules."""
    vae, encoder = shaken(OriginalVAE(), 1), shaken(OriginalText(words, **text), 2)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(vae.state_dict(), folder / "Wan2.1_VAE.pth")
    torch.save(encoder.state_dict(), folder / "models_t5_umt5-xxl-enc-bf16.pth")
    tokenizer.save_pretrained(folder / "google" / "umt5-xxl")
    return vae, encoder
