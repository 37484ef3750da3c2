"""Whole and overlap modes against the published pipelines, and what must hold of any sampler."""

import logging
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bdiff_core import ChunkCondition, Renoising, Scheduled, euler, load_transformer
from bdiff_core.samplers import generate_overlap, generate_whole, staggered

FRAMES, SIZE, CHANNELS, TEXT = 2, (4, 6), 4, 20
GRID = [1.0, 0.6, 0.2, 0.0]


class Drawn:
    """Noise that was drawn beforehand, by chunk."""

    def __init__(self, chunks):
        self.chunks = chunks

    def chunk(self, index):
        return self.chunks[index]

    def step(self, index, step):
        generator = torch.Generator().manual_seed(97 * index + step)
        return torch.randn(self.chunks[index].shape, generator=generator)


def drawn(num_chunks, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Drawn(list(torch.randn(num_chunks, FRAMES, CHANNELS, *SIZE, generator=generator)))


def told(num_chunks, *, same=True, seed=1):
    generator = torch.Generator().manual_seed(seed)
    texts, negative = torch.randn(num_chunks, 7, TEXT, generator=generator), torch.randn(7, TEXT, generator=generator)
    return [
        ChunkCondition(index=i, text=texts[0 if same else i], negative=negative, embedding=texts[i].mean(0))
        for i in range(num_chunks)
    ]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A published transformer with random weights, and ours read from its directory."""
    diffusers = pytest.importorskip("diffusers", reason="the published pipelines are in diffusers")
    logging.getLogger("diffusers").setLevel(logging.ERROR)

    def make(kind, **sizes):
        small = {
            "num_attention_heads": 2, "attention_head_dim": 12, "in_channels": CHANNELS, "out_channels": CHANNELS,
            "text_dim": TEXT, "freq_dim": 16, "ffn_dim": 24, "num_layers": 2,
        }  # fmt: skip
        theirs = getattr(diffusers, kind)(**small | sizes)
        generator = torch.Generator().manual_seed(3)
        for name, p in theirs.named_parameters():
            offset = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            scale = 0.3 if p.ndim < 2 or "table" in name else p[0].numel() ** -0.5
            p.data = offset + scale * torch.randn(p.shape, generator=generator)
        folder = tmp_path_factory.mktemp(kind)
        theirs.save_pretrained(folder)
        return theirs.eval(), load_transformer(folder)

    return make


def scheduler(kind, shift):
    import diffusers

    if kind == "euler":
        return diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    return diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, num_train_timesteps=1000
    )


def pipeline(kind, transformer, schedule, vae=None):
    import diffusers

    parts = {"tokenizer": None, "text_encoder": None, "vae": vae}
    pipe = getattr(diffusers, kind)(transformer=transformer, scheduler=schedule, **parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def pad(text):
    """The published pipelines give 512 tokens, zeros behind the prompt."""
    return torch.nn.functional.pad(text, (0, 0, 0, 512 - len(text)))[None]


@pytest.mark.parametrize("kind", ["euler", "unipc"])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_whole_mode_gives_the_latents_of_the_wan_pipeline(published, relative, kind, guidance):
    theirs, ours = published("WanTransformer3DModel")
    noise, chunks, schedule = drawn(3), told(3), scheduler(kind, shift=3.0)
    solver = Scheduled(schedule)
    with torch.no_grad():
        made = generate_whole(ours, chunks, noise=noise, grid=solver.grid(6), solver=solver, guidance=guidance)
        found = torch.cat([chunk.latents for chunk in made], dim=2)
    expected = pipeline("WanPipeline", theirs, schedule)(
        prompt_embeds=pad(chunks[0].text), negative_prompt_embeds=pad(chunks[0].negative), guidance_scale=guidance,
        num_inference_steps=6, height=SIZE[0] * 8, width=SIZE[1] * 8, num_frames=4 * (3 * FRAMES - 1) + 1,
        latents=torch.cat(noise.chunks).transpose(0, 1)[None], output_type="latent",
    ).frames  # fmt: skip
    assert relative(found, expected) < 1e-3


@pytest.mark.parametrize(
    ("lag", "causal", "overlap", "num_chunks"),
    [(0, False, 1, 6), (0, False, 2, 7), (2, True, 1, 5), (5, True, 2, 8), (1, True, 1, 9)],
)
@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_overlap_mode_gives_the_latents_of_the_diffusion_forcing_pipeline(
    published, relative, lag, causal, overlap, num_chunks, guidance
):
    window, num_steps = 3, 5
    theirs, ours = published("SkyReelsV2Transformer3DModel", num_frame_per_block=FRAMES if causal else 1)
    chunks, schedule = told(num_chunks), scheduler("unipc", shift=5.0)
    noise, rng_seed = _noise_of_the_pipeline(num_chunks, window=window, overlap=overlap)
    solver = Scheduled(schedule)
    with torch.no_grad():
        made = generate_overlap(
            ours, chunks, noise=noise, grid=solver.grid(num_steps), solver=solver, guidance=guidance,
            window=window, overlap=overlap, lag=lag, causal=causal,
        )  # fmt: skip
        found = torch.cat([chunk.latents for chunk in made], dim=2)
    expected = pipeline("SkyReelsV2DiffusionForcingPipeline", theirs, schedule)(
        prompt=None, prompt_embeds=pad(chunks[0].text), negative_prompt_embeds=pad(chunks[0].negative),
        guidance_scale=guidance, num_inference_steps=num_steps, height=SIZE[0] * 8, width=SIZE[1] * 8,
        num_frames=4 * (num_chunks * FRAMES - 1) + 1, base_num_frames=4 * (window * FRAMES - 1) + 1,
        overlap_history=4 * (overlap * FRAMES - 1) + 1, ar_step=lag, causal_block_size=FRAMES if causal else None,
        generator=torch.Generator().manual_seed(rng_seed), output_type="latent",
    ).frames  # fmt: skip
    assert found.shape == expected.shape
    assert relative(found, expected) < 1e-3


@pytest.fixture(scope="module")
def published_vae():
    diffusers = pytest.importorskip("diffusers", reason="the published autoencoder is in diffusers")
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKLWan(
        base_dim=4, z_dim=CHANNELS, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
        latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.5, 0.7, 1.0, 2.0],
    )  # fmt: skip
    return vae.eval().requires_grad_(False)


@pytest.mark.parametrize(("overlap", "num_chunks"), [(1, 3), (1, 6), (2, 7)])
@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_overlap_mode_goes_on_from_a_video_as_the_diffusion_forcing_pipeline_does(
    published, published_vae, relative, overlap, num_chunks, guidance
):
    """The pipeline encodes the last frames of the video by themselves; given those latents, ours are its own."""
    from bdiff_core.wan import WanVAE

    window, num_steps = 3, 4
    theirs, ours = published("SkyReelsV2Transformer3DModel", num_frame_per_block=1)
    chunks, schedule = told(num_chunks), scheduler("unipc", shift=5.0)
    noise, rng_seed = _noise_of_the_pipeline(num_chunks, window=window, overlap=overlap)
    frames = 4 * (overlap * FRAMES - 1) + 1
    video = torch.rand(frames + 4, 3, SIZE[0] * 8, SIZE[1] * 8, generator=torch.Generator().manual_seed(4))
    solver = Scheduled(schedule)
    with torch.no_grad():
        prefix, _ = WanVAE(published_vae).encode(video[-frames:].transpose(0, 1)[None] * 2 - 1)
        made = generate_overlap(
            ours, chunks, noise=noise, grid=solver.grid(num_steps), solver=solver, guidance=guidance,
            window=window, overlap=overlap, prefix=dict(enumerate(prefix.split(FRAMES, dim=2))),
        )  # fmt: skip
        found = torch.cat([chunk.latents for chunk in made], dim=2)
    pipe = pipeline("SkyReelsV2DiffusionForcingVideoToVideoPipeline", theirs, schedule, vae=published_vae)
    expected = pipe(
        video=list(video[None]), prompt_embeds=pad(chunks[0].text), negative_prompt_embeds=pad(chunks[0].negative),
        prompt=None, guidance_scale=guidance, num_inference_steps=num_steps, height=SIZE[0] * 8, width=SIZE[1] * 8,
        num_frames=4 * (num_chunks * FRAMES - 1) + 1, base_num_frames=4 * (window * FRAMES - 1) + 1,
        overlap_history=frames, generator=torch.Generator().manual_seed(rng_seed), output_type="latent",
    ).frames  # fmt: skip
    assert found.shape == expected.shape
    torch.testing.assert_close(found[:, :, : overlap * FRAMES], prefix)
    assert relative(found, expected) < 1e-3


@pytest.mark.parametrize("num_given", [2, 3, 4])
def test_what_an_earlier_call_made_is_gone_on_from(small, num_given):
    """Windows that end where the given chunks end are followed by the same windows."""
    chunks, noise, options = told(4), drawn(4), {"grid": GRID, "window": 2, "overlap": 1}
    with torch.no_grad():
        whole = [chunk.latents for chunk in generate_overlap(small, chunks, noise=noise, **options)]
        prefix = dict(enumerate(whole[:num_given]))
        again = [chunk.latents for chunk in generate_overlap(small, chunks, noise=noise, prefix=prefix, **options)]
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))


def test_a_given_chunk_behind_a_hole_is_refused(small):
    latents = torch.zeros(1, CHANNELS, FRAMES, *SIZE)
    with pytest.raises(ValueError, match="prefix gives chunk 2 but not chunk 0; expected the first ones"):
        next(generate_overlap(small, told(3), noise=drawn(3), grid=GRID, window=2, overlap=1, prefix={2: latents}))


def _noise_of_the_pipeline(num_chunks, *, window, overlap, seed=11):
    """What the published pipeline draws: a whole window each time, of which the overlap is overwritten."""
    generator, chunks, first = torch.Generator().manual_seed(seed), [], 0
    while len(chunks) < num_chunks:
        shown = min(window, num_chunks - first)
        latents = torch.randn(1, CHANNELS, shown * FRAMES, *SIZE, generator=generator)
        parts = list(latents[0].transpose(0, 1).split(FRAMES))
        chunks += parts[overlap if first else 0 :]
        first += window - overlap
    return Drawn(chunks), seed


@pytest.fixture(scope="module")
def small(config, random_model):
    """A small transformer of ours whose prompts and channels are those of the chunks here."""
    from dataclasses import replace

    return random_model(replace(config, in_channels=CHANNELS, out_channels=CHANNELS, text_dim=TEXT, text_length=8))


@pytest.mark.parametrize("solver", [euler, Renoising(drawn(3))])
def test_whole_mode_is_the_steps_written_out(small, solver):
    chunks, noise = told(3), drawn(3)
    with torch.no_grad():
        made = torch.cat(
            [chunk.latents for chunk in generate_whole(small, chunks, noise=noise, grid=GRID, solver=solver)], dim=2
        )
        x = torch.cat(noise.chunks).transpose(0, 1)[None]
        for number, (level, after) in enumerate(pairwise(GRID)):
            v = small(x, torch.full((1, 3 * FRAMES), level), chunks[0].text[None])
            if solver is euler:
                x = x + (after - level) * v
            else:
                fresh = torch.cat([noise.step(index, number) for index in range(3)]).transpose(0, 1)[None]
                x = (x - level * v) * (1 - after) + after * fresh
    torch.testing.assert_close(made, x, rtol=1e-4, atol=1e-4)


def test_a_mixed_history_is_the_finished_chunk_under_its_own_level(small, monkeypatch):
    """history_level: what the model sees of a finished chunk is (1 - l) x + l noise, and it is told l."""
    seen, plain = [], type(small).forward

    def watch(self, latents, levels, *args, **kwargs):
        seen.append((latents.clone(), levels.clone()))
        return plain(self, latents, levels, *args, **kwargs)

    monkeypatch.setattr(type(small), "forward", watch)
    noise, chunks = drawn(3), told(3)
    with torch.no_grad():
        made = list(generate_overlap(small, chunks, noise=noise, grid=GRID, window=2, overlap=1, history_level=0.02))
    second = seen[3:6]
    assert len(seen) == 6
    for step, (latents, levels) in enumerate(second):
        expected = 0.98 * made[1].latents + 0.02 * noise.step(1, step).transpose(0, 1)[None]
        torch.testing.assert_close(latents[:, :, :FRAMES], expected)
        torch.testing.assert_close(levels[0], torch.tensor([0.02] * FRAMES + [GRID[step]] * FRAMES))


def test_an_asynchronous_chunk_comes_out_before_the_next_one_is_done(small, monkeypatch):
    count, plain = [0], type(small).forward

    def watch(self, *args, **kwargs):
        count[0] += 1
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(type(small), "forward", watch)
    with torch.no_grad():
        made = generate_overlap(
            small, told(3, same=False), noise=drawn(3), grid=GRID, window=3, overlap=1, lag=2, causal=True
        )
        passes = [count[0] for _ in made]
    assert passes == [3, 5, 7]


def test_law_3_holds_for_causal_windows(small):
    """Changing the prompt of the last chunk changes no chunk before it."""
    chunks, options = told(4, same=False), {"grid": GRID, "window": 3, "overlap": 1, "lag": 1, "causal": True}
    edited = [*chunks[:3], told(4, same=False, seed=8)[3]]
    with torch.no_grad():
        before = list(generate_overlap(small, chunks, noise=drawn(4), **options))
        after = list(generate_overlap(small, edited, noise=drawn(4), **options))
    assert all(torch.equal(a.latents, b.latents) for a, b in zip(before[:3], after[:3], strict=True))
    assert not torch.allclose(before[3].latents, after[3].latents, atol=1e-4)


@settings(deadline=None)
@given(num_new=st.integers(1, 6), num_known=st.integers(0, 3), num_steps=st.integers(1, 9), lag=st.integers(0, 12))
def test_staggered_steps(num_new, num_known, num_steps, lag):
    rows = list(staggered(num_new + num_known, num_steps, lag=lag, num_known=num_known))
    before = [num_steps] * num_known + [0] * num_new
    for row in rows:
        assert all(after - count in (0, 1) for count, after in zip(before, row, strict=True))
        assert sum(row) > sum(before)
        before = row
    assert before == [num_steps] * (num_new + num_known)
    # A chunk follows by `lag` steps, or by as many as there are: nobody waits longer than until all before are done.
    assert len(rows) == num_steps + (num_new - 1) * min(lag, num_steps)


@pytest.mark.parametrize("kind", ["euler", "unipc"])
def test_a_scheduler_walks_the_levels_that_it_is_given(kind):
    """On a constant velocity every solver is exact, whatever the levels."""
    pytest.importorskip("diffusers", reason="schedulers are those of diffusers")
    solver = Scheduled(scheduler(kind, shift=3.0))
    levels = [0.999, 0.83, 0.4, 0.05, 0.0]
    noise, clean = torch.randn(2, 1, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    x = clean + levels[0] * (noise - clean)
    steps = list(solver.steps(levels, index=0))
    for step, (level, _) in zip(steps, pairwise(levels), strict=True):
        assert abs(step.level - level) < 1.001e-3  # whole thousandths, rounded down
        x = step.advance(x, noise - clean)
    torch.testing.assert_close(x, clean, rtol=1e-4, atol=1e-4)


def test_bad_windows_are_refused(small):
    chunks, noise = told(2), drawn(2)
    for options in ({"window": 2, "overlap": 2}, {"window": 2, "overlap": 1, "lag": -1},
                    {"window": 2, "overlap": 1, "history_level": 1.0}):  # fmt: skip
        with pytest.raises(ValueError, match="expected"):
            next(generate_overlap(small, chunks, noise=noise, grid=GRID, **options))
    with pytest.raises(ValueError, match="one prompt"):
        next(generate_whole(small, told(2, same=False), noise=noise, grid=GRID))


def test_a_scheduler_of_another_kind_is_refused():
    diffusers = pytest.importorskip("diffusers", reason="schedulers are those of diffusers")
    with pytest.raises(ValueError, match="DDIMScheduler does not sample a flow"):
        Scheduled(diffusers.DDIMScheduler())
