"""The loop with a bank against `FrameLoop` of reference.py: an independent loop over frames, in float64."""

import importlib.util
from pathlib import Path

import pytest
import torch

from bdiff_core import ChunkCondition, ChunkDiT, ModelConfig, Renoising, generate, prepare_context
from bdiff_core.lengths import Lengths
from kvbank import Full, KVBank, Rolling, Sink
from noisesched import NoiseStream, few_step_grid, nearest_grid

SIZE = (4, 4)
STEPS = [1000, 750, 500, 250]
GRID = few_step_grid(STEPS, shift=5.0)


REFERENCE = Path(__file__).parents[3] / "packages" / "bdiff-core" / "tests" / "reference.py"


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("bdiff_core_reference", REFERENCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def config():
    return ModelConfig(
        dim=32, num_layers=2, num_heads=2, ffn_dim=48, in_channels=3, out_channels=3, text_dim=12, text_length=6,
        freq_dim=16,
    )  # fmt: skip


@pytest.fixture(scope="module")
def model(config):
    """A transformer in which every parameter is random and none is zero."""
    model, generator = ChunkDiT(config), torch.Generator().manual_seed(3)
    for name, p in model.named_parameters():
        scale = 0.3 if p.ndim < 2 or name.endswith("table") else p.shape[-1] ** -0.5
        p.data = scale * torch.randn(p.shape, generator=generator) + float("norm" in name and name.endswith("weight"))
    return model


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


def conditions(config, prompts):
    texts = torch.randn(
        max(prompts) + 1, config.text_length, config.text_dim, generator=torch.Generator().manual_seed(5)
    )
    return [
        ChunkCondition(index=c, text=texts[p], negative=torch.zeros_like(texts[p]), embedding=texts[p].mean(0))
        for c, p in enumerate(prompts)
    ]


def stream(config, frames, **options):
    return NoiseStream((config.in_channels, *SIZE), frames, seed=11, base="fresh", **options)


def made_by_us(model, chunks, noise, *, policy, grid=GRID, told=None, **options):
    with torch.no_grad():
        bank = KVBank(policy=policy)
        solver = Renoising(noise, told)
        made = generate(model, chunks, memory=bank, noise=noise, grid=grid, solver=solver, **options)
        return torch.cat([chunk.latents[0] for chunk in made], dim=1).double()


def made_by_reference(reference, model, chunks, noise, *, grid=GRID, told=None, **options):
    loop = reference.FrameLoop(model, **options)
    told = grid[:-1] if told is None else told
    return loop.sample(
        [chunk.text.double() for chunk in chunks],
        [noise.chunk(chunk.index) for chunk in chunks],
        list(zip(told, grid[:-1], grid[1:], strict=True)),
        step_noise=noise.step,
    )


SELF_FORCING = {"window": 12}
CASES = {
    # name: frames, first frames, the policy, the published setting, positions
    "all": (3, None, Full(), {}, "absolute"),
    "self-forcing": (3, None, Rolling(frames=9), SELF_FORCING, "absolute"),
    "self-forcing by chunks": (3, None, Rolling(3), SELF_FORCING, "absolute"),
    "slots of a window are its absolute positions": (3, None, Rolling(3), SELF_FORCING, "slots"),
    "a window that cuts a chunk": (3, None, Rolling(frames=7), {"window": 10}, "absolute"),
    "a window that cuts a chunk, in slots": (3, None, Rolling(frames=8), {"window": 11}, "slots"),
    "longlive": (3, None, Sink(frames=3, window_frames=6), {"window": 12, "sink": 3}, "absolute"),
    "longlive infinity": (3, None, Sink(1, 2), {"window": 12, "sink": 3, "relative": True}, "slots"),
    "a sink of one frame": (3, None, Sink(frames=1, window_frames=6), {"window": 10, "sink": 1}, "absolute"),
    "one frame a chunk": (1, None, Rolling(4), {"window": 5}, "absolute"),
    "first frame alone": (3, 1, Full(), {}, "absolute"),
    "first frame alone, in slots": (3, 1, Rolling(3), {"window": 12, "relative": True}, "slots"),
    "first frame alone, a window": (3, 1, Rolling(frames=5), {"window": 8}, "absolute"),
    "first frame alone as a sink": (3, 1, Sink(1, 2), {"window": 10, "sink": 1, "relative": True}, "slots"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_loop_is_the_published_one(case, reference, model, config):
    frames, first, policy, setting, positions = CASES[case]
    chunks, noise = conditions(config, [0] * 7), stream(config, frames, first_frames=first)
    found = made_by_us(model, chunks, noise, policy=policy, positions=positions)
    expected = made_by_reference(reference, model, chunks, noise, **setting)
    assert relative(found, expected) < 1e-4


@pytest.mark.parametrize(
    ("policy", "positions"),
    [
        (Rolling(frames=8), "absolute"),
        (Sink(frames=3, window_frames=9), "absolute"),
        (Sink(frames=3, window_frames=6), "slots"),
        (Full(), "absolute"),
    ],
)
def test_another_window_sink_or_position_is_another_video(policy, positions, reference, model, config):
    chunks, noise = conditions(config, [0] * 7), stream(config, 3)
    found = made_by_us(model, chunks, noise, policy=policy, positions=positions)
    expected = made_by_reference(reference, model, chunks, noise, window=12, sink=3)
    assert relative(found[:, -3:], expected[:, -3:]) > 3e-3


@pytest.mark.parametrize("positions", ["absolute", "slots"])
@pytest.mark.parametrize("switch", ["keep", "recompute", "flush"])
@pytest.mark.parametrize("sink", [0, 3])
@pytest.mark.parametrize("first", [None, 1])
def test_a_new_prompt(first, sink, switch, positions, reference, model, config):
    chunks, noise = conditions(config, [0, 0, 0, 0, 0, 1, 1, 0, 0]), stream(config, 3, first_frames=first)
    sink = first or sink if sink else 0
    policy = Sink(1, 2) if sink else Rolling(2)
    setting = {"window": sink + 9, "sink": sink, "relative": positions == "slots"}
    options = {"policy": policy, "positions": positions}
    found = made_by_us(model, chunks, noise, prompt_switch=switch, **options)
    expected = made_by_reference(reference, model, chunks, noise, switch=switch, **setting)
    assert relative(found, expected) < 1e-4
    if switch != "keep":
        kept = made_by_us(model, chunks, noise, **options)
        assert relative(kept[:, -12:], expected[:, -12:]) > 3e-3


def test_the_level_told_while_the_cache_is_filled(reference, model, config):
    chunks, noise = conditions(config, [0] * 4), stream(config, 3)
    found = made_by_us(model, chunks, noise, policy=Full(), positions="absolute", context_noise=0.1)
    expected = made_by_reference(reference, model, chunks, noise, context_level=0.1)
    assert relative(found, expected) < 1e-4
    assert relative(made_by_us(model, chunks, noise, policy=Full(), positions="absolute"), expected) > 3e-3


def test_causvid_is_told_its_own_steps(reference, model, config):
    chunks, noise = conditions(config, [0] * 3), stream(config, 3)
    steps = (1000, 757, 522)
    grid, told = nearest_grid(steps, shift=5.0), [step / 1000 for step in steps]
    options = {"policy": Full(), "positions": "absolute", "grid": grid}
    expected = made_by_reference(reference, model, chunks, noise, grid=grid, told=told)
    assert relative(made_by_us(model, chunks, noise, told=told, **options), expected) < 1e-4
    assert relative(made_by_us(model, chunks, noise, **options), expected) > 1e-5


@pytest.mark.parametrize("switch", ["recompute", "flush"])
@pytest.mark.parametrize("stop", [3, 5, 6, 8])
def test_going_on_after_a_chunk_gives_the_same_video(stop, switch, model, config):
    chunks, noise = conditions(config, [0, 0, 0, 0, 0, 1, 1, 0, 0]), stream(config, 3, first_frames=1)
    options = {"noise": noise, "grid": GRID, "solver": Renoising(noise), "prompt_switch": switch}
    with torch.no_grad():
        whole = list(generate(model, chunks, memory=KVBank(policy=Sink(1, 2)), **options))
        bank = KVBank(policy=Sink(1, 2))
        head = list(generate(model, chunks[:stop], memory=bank, **options))
        latents = {chunk.index: chunk.latents for chunk in head[-3:]}
        tail = list(generate(model, chunks[stop:], memory=bank, before=chunks[:stop], past_latents=latents, **options))
    assert all(torch.equal(one.latents, other.latents) for one, other in zip(whole, [*head, *tail], strict=True))


def test_what_a_change_of_the_prompt_needs_is_named(model, config):
    chunks, noise = conditions(config, [0, 0, 1]), stream(config, 3)
    options = {"noise": noise, "grid": GRID, "solver": Renoising(noise), "prompt_switch": "recompute"}
    bank = KVBank(policy=Rolling(2))
    with torch.no_grad():
        list(generate(model, chunks[:2], memory=bank, **options))
        with pytest.raises(ValueError, match="at least those of chunk 1; got chunks \\[\\]"):
            list(generate(model, chunks[2:], memory=bank, before=chunks[:2], **options))


def test_options_of_the_loop_are_checked(model, config):
    chunks, noise = conditions(config, [0, 0]), stream(config, 3)
    options = {"memory": KVBank(policy=Full()), "noise": noise, "grid": GRID}
    with pytest.raises(ValueError, match="prompt_switch is 'drop'; expected one of keep, recompute, flush"):
        next(generate(model, chunks, prompt_switch="drop", **options))
    with pytest.raises(ValueError, match="context_noise is 1000"):
        next(generate(model, chunks, context_noise=1000, **options))
    with pytest.raises(ValueError, match="told has 2 levels; expected one for each of the 4 steps"):
        next(generate(model, chunks, solver=Renoising(noise, (1.0, 0.5)), **options))


class OnlyLater:
    """Noise of later chunks alone, without their lengths."""

    def __init__(self, noise, first):
        self.noise, self.first = noise, first

    def chunk(self, index):
        return {i: self.noise.chunk(i) for i in range(self.first, 9)}[index]


def test_lengths_come_from_the_noise(config):
    noise = stream(config, 3, first_frames=1)
    lengths = Lengths(noise)
    assert [lengths.of(index) for index in range(3)] == [1, 3, 3]
    assert [lengths.before(index) for index in range(4)] == [0, 1, 4, 7]
    assert Lengths(OnlyLater(noise, 0)).before(3) == 7
    with pytest.raises(ValueError, match=r"the noise has no chunk 0, whose number of latent frames is needed"):
        Lengths(OnlyLater(noise, 1)).before(3)


def test_unequal_chunks_at_absolute_positions_do_not_go_into_slots(model, config):
    chunks, noise = conditions(config, [0] * 3), stream(config, 3, first_frames=1)
    bank = KVBank(policy=Full())
    options = {"memory": bank, "noise": noise, "grid": GRID, "positions": "absolute"}
    with torch.no_grad():
        list(generate(model, chunks, **options))
    recall = bank.read(3, embedding=None)
    with pytest.raises(
        ValueError, match="chunk 1 has 3 latent frames and a token at 3; with chunks of unequal length slots"
    ):
        prepare_context(recall, model=model, index=3, frames_per_chunk={0: 1, 1: 3, 2: 3})
    with pytest.raises(ValueError, match=r"frames_per_chunk lacks chunks \[2\]"):
        prepare_context(recall, model=model, index=3, frames_per_chunk={0: 1, 1: 3})
