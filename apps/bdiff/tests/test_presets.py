"""Every preset on small random checkpoints, against the independent loop of reference.py in float64."""

import copy
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from bdiff.cli.main import main
from bdiff.presets import PRESETS, recognised
from bdiff.run import RunState
from bdiff_core import ChunkCondition, Scheduled, load_transformer
from bdiff_core.checkpoint.names import split
from bdiff_core.samplers import generate_overlap
from noisesched import NoiseStream

diffusers = pytest.importorskip("diffusers", reason="pipelines are those of diffusers")
transformers = pytest.importorskip("transformers", reason="their text encoders are those of transformers")

HEIGHT, WIDTH, SEED = 16, 32, 4
PROMPTS = ["a fox at sea"] * 5 + ["a cat at sea"] * 2
FEW = [1.0, 5 * 0.75 / (1 + 4 * 0.75), 5 * 0.5 / (1 + 4 * 0.5), 5 * 0.25 / (1 + 4 * 0.25), 0.0]


def self_forcing(**options):
    return {"frames": 3, "levels": FEW} | options


# What each preset stands for, as its authors' configuration files say it: window and sink in latent frames, the window
# with the sink and the reader's own.
PUBLISHED = {
    "self-forcing": self_forcing(),
    "causal-forcing": self_forcing(),
    "causal-forcing-framewise": self_forcing(frames=1),
    "causal-forcing-2step": self_forcing(frames=1, levels=[FEW[0], FEW[2], 0.0], first=FEW),
    "causal-forcing-1step": self_forcing(frames=1, levels=[1.0, 0.0], first=FEW),
    "causal-forcing-ar": {"frames": 3, "unipc": 5.0, "guidance": 3.0},
    "causal-forcing-ar-framewise": {"frames": 1, "unipc": 5.0, "guidance": 3.0},
    "longlive": self_forcing(window=12, sink=3, switch="recompute"),
    "longlive-infinity": self_forcing(window=12, sink=3, switch="recompute", relative=True),
    "reward-forcing": self_forcing(window=9, sink=3, relative=True),
    "causvid": {"frames": 3, "levels": [1.0, 0.756757, 0.521739, 0.0], "told": [1.0, 0.757, 0.522]},
}


def shaken(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        p.data = p.data + 0.1 * torch.randn(p.shape, generator=generator)
    return module.eval()


@pytest.fixture(scope="module")
def reference():
    import importlib.util

    path = Path(__file__).parents[3] / "packages" / "bdiff-core" / "tests" / "reference.py"
    spec = importlib.util.spec_from_file_location("bdiff_core_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["<pad>", "</s>", "<unk>", "▁a", "▁fox", "▁cat", "▁at", "▁sea", "▁", "s", "e", "a", "t", "x"]
    plain = Tokenizer(models.Unigram([(word, -float(rank)) for rank, word in enumerate(words)], unk_id=2))
    plain.pre_tokenizer = pre_tokenizers.Metaspace()
    plain.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=plain, **names), len(words)


@pytest.fixture(scope="module")
def parts():
    words, count = tokenizer()
    text = {"vocab_size": count, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 2}
    torch.manual_seed(0)
    sizes = {"num_attention_heads": 1, "attention_head_dim": 128, "in_channels": 4, "out_channels": 4, "text_dim": 16,
             "freq_dim": 16, "ffn_dim": 24, "num_layers": 2}  # fmt: skip
    vae = diffusers.AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 4, latents_std=[1.0] * 4
    )
    return {
        "transformer": shaken(diffusers.WanTransformer3DModel(**sizes)),
        "vae": shaken(vae),
        "text_encoder": shaken(transformers.UMT5EncoderModel(transformers.UMT5Config(**text))),
        "tokenizer": words,
        "scheduler": diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    }


@pytest.fixture(scope="module")
def pipeline(parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wan")
    diffusers.WanPipeline(**parts).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(pipeline, tmp_path_factory):
    """A transformer with larger weights than the pipeline's, in Self-Forcing's form."""
    model = load_transformer(pipeline)
    for p in model.parameters():
        p.data = 1.5 * p.data
    file = tmp_path_factory.mktemp("published") / "model.pt"
    named = {f"model.{name}": weight.clone() for name, weight in split(model, "wan")}
    torch.save({"generator_ema": named, "step": 600}, file)
    return file, model


def states(parts, prompt):
    """States of a prompt's tokens, as the transformer gets them."""
    tokens = parts["tokenizer"]([prompt], return_tensors="pt")
    with torch.no_grad():
        return parts["text_encoder"](tokens.input_ids, tokens.attention_mask).last_hidden_state[0].double()


def sampled(pipeline, out, *options, prompts=PROMPTS):
    words = [word for prompt in prompts for word in ("--prompt", prompt)]
    size = ["--height", str(HEIGHT), "--width", str(WIDTH), "--seed", str(SEED)]
    with pytest.raises(SystemExit) as stopped:
        main(["sample", "--model", str(pipeline), "--out", str(out), *size, *words, *map(str, options)])
    assert stopped.value.code == 0
    state = RunState(out)
    return torch.cat([state.chunk(index).latents[0] for index in range(len(prompts))], dim=1).double()


def expected(reference, parts, model, setting, *, prompts=PROMPTS):
    setting = dict(setting)
    frames, first, unipc = setting.pop("frames"), setting.pop("first", None), setting.pop("unipc", None)
    noise = NoiseStream((4, HEIGHT // 8, WIDTH // 8), frames, seed=SEED, base="fresh")
    levels, told = setting.pop("levels", []), setting.pop("told", None)
    texts = [states(parts, prompt) for prompt in prompts]
    start = [noise.chunk(index) for index in range(len(prompts))]
    if unipc is not None:
        loop = reference.FrameLoop(model, negative=states(parts, ""), **setting)

        def scheduler(_):
            walker = diffusers.UniPCMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=unipc
            )
            walker.set_timesteps(50)
            return walker

        return loop.sample(texts, start, [], scheduler=scheduler)
    loop = reference.FrameLoop(model, **setting)
    steps = [(told[n] if told else level, level, after) for n, (level, after) in enumerate(pairwise(levels))]
    if first is None:
        return loop.sample(texts, start, steps, step_noise=noise.step)
    loop.sample(texts[:1], start[:1], [(a, a, b) for a, b in pairwise(first)], step_noise=noise.step)
    return loop.sample(texts[1:], start[1:], steps, step_noise=lambda chunk, step: noise.step(chunk + 1, step))


def off(found, wanted, last=None):
    found, wanted = (each if last is None else each[:, -last:] for each in (found, wanted))
    return ((found - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_gives_the_latents_of_the_published_loop(name, reference, parts, pipeline, checkpoint, tmp_path):
    file, model = checkpoint
    prompts = PROMPTS[:3] if name.startswith("causal-forcing-ar") else PROMPTS
    found = sampled(pipeline, tmp_path / "run", "--transformer", file, "--preset", name, prompts=prompts)
    assert off(found, expected(reference, parts, model, PUBLISHED[name], prompts=prompts)) < 1e-3


def test_longlive_is_a_base_and_a_lora(reference, parts, pipeline, checkpoint, tmp_path):
    file, model = checkpoint
    lora, merged = {}, copy.deepcopy(model)
    generator = torch.Generator().manual_seed(9)
    for number, block in enumerate(merged.blocks):
        for module, name, rows in (
            ("ffn.0", "ffn_in", slice(None)),
            ("self_attn.k", "self_attention.qkv", slice(128, 256)),
        ):
            weight = dict(block.named_parameters())[f"{name}.weight"]
            down = torch.randn(4, weight.shape[1], generator=generator) * 0.2
            up = torch.randn(weight[rows].shape[0], 4, generator=generator) * 0.2
            lora |= {
                f"base_model.model.blocks.{number}.{module}.lora_A.weight": down,
                f"base_model.model.blocks.{number}.{module}.lora_B.weight": up,
            }
            weight.data[rows] += up @ down
    torch.save({"generator_lora": lora}, tmp_path / "lora.pt")
    given = ["--transformer", file, "--lora", tmp_path / "lora.pt", "--preset", "longlive"]
    found = sampled(pipeline, tmp_path / "run", *given)
    assert off(found, expected(reference, parts, merged, PUBLISHED["longlive"])) < 1e-3
    assert off(found, expected(reference, parts, model, PUBLISHED["longlive"])) > 3e-3


@pytest.mark.parametrize(
    "wrong",
    [
        ["--policy", "sink:frames=3,window=3"],
        ["--policy", "rolling:frames=9"],
        ["--positions", "slots"],
        ["--prompt-switch", "keep"],
        ["--prompt-switch", "flush"],
        ["--context-noise", "0.1"],
        ["--preset", "longlive-infinity"],
        ["--preset", "causvid"],
    ],
    ids=" ".join,
)
def test_a_wrong_setting_gives_other_latents(wrong, reference, parts, pipeline, checkpoint, tmp_path):
    file, model = checkpoint
    found = sampled(pipeline, tmp_path / "run", "--transformer", file, "--preset", "longlive", *wrong)
    assert off(found, expected(reference, parts, model, PUBLISHED["longlive"]), last=6) > 3e-3


def whole_video(made, noise):
    return diffusers.WanPipeline(**made)(
        PROMPTS[0], negative_prompt="", height=HEIGHT, width=WIDTH, num_frames=81, num_inference_steps=50,
        guidance_scale=5.0, latents=noise, output_type="latent",
    )  # fmt: skip


def test_wan_is_sampled_as_its_own_code_does(parts, pipeline, tmp_path):
    found = sampled(pipeline, tmp_path / "run", "--preset", "wan2.1", prompts=PROMPTS[:1])
    noise = NoiseStream((4, HEIGHT // 8, WIDTH // 8), 21, seed=SEED, base="fresh").chunk(0).transpose(0, 1)[None]
    scheduler = diffusers.UniPCMultistepScheduler.from_config(parts["scheduler"].config, flow_shift=5.0)
    assert off(found, whole_video(parts | {"scheduler": scheduler}, noise).frames[0].double()) < 1e-3
    assert off(found, whole_video(parts, noise).frames[0].double()) > 3e-3  # its own shift of 3


def test_skyreels_is_sampled_in_windows_of_its_own(parts, tmp_path):
    torch.manual_seed(0)
    sizes = {"num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4, "text_dim": 16,
             "freq_dim": 16, "ffn_dim": 24, "num_layers": 2}  # fmt: skip
    made = parts | {"transformer": shaken(diffusers.SkyReelsV2Transformer3DModel(**sizes))}
    diffusers.SkyReelsV2DiffusionForcingPipeline(**made).save_pretrained(tmp_path / "model")
    found = sampled(tmp_path / "model", tmp_path / "run", "--preset", "skyreels-v2-df", prompts=PROMPTS[:1])
    scheduler = diffusers.UniPCMultistepScheduler.from_config(parts["scheduler"].config, flow_shift=8.0)
    noise = NoiseStream((4, HEIGHT // 8, WIDTH // 8), 5, seed=SEED, base="fresh")
    text, negative = (states(parts, prompt).float() for prompt in (PROMPTS[0], ""))
    pad = torch.nn.functional.pad(negative, (0, 0, 0, len(text) - len(negative)))
    chunk = ChunkCondition(index=0, text=text, negative=pad, embedding=text.mean(0))
    solver = Scheduled(scheduler)
    with torch.no_grad():  # which gives the latents of diffusers' own pipeline, see the tests of bdiff-core
        (wanted,) = generate_overlap(
            load_transformer(tmp_path / "model"), [chunk], noise=noise, grid=solver.grid(50), solver=solver,
            guidance=6.0, window=5, overlap=1,
        )  # fmt: skip
    assert off(found, wanted.latents[0].double()) < 1e-3


def test_every_preset_that_runs_chunk_by_chunk_is_tested():
    assert {name for name, one in PRESETS.items() if one.settings["mode"] == "cached"} <= {
        *PUBLISHED, "memflow", "self-forcing-image",
    }  # fmt: skip


def test_a_picture_is_a_first_chunk_of_one_frame(reference, parts, pipeline, checkpoint, tmp_path):
    from PIL import Image

    file, model = checkpoint
    pixels = torch.randint(0, 256, (HEIGHT, WIDTH, 3), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(tmp_path / "cat.png")
    given = ["--transformer", file, "--preset", "self-forcing-image", "--image", tmp_path / "cat.png"]
    found = sampled(pipeline, tmp_path / "run", *given, prompts=PROMPTS[:4])
    assert found.shape[1] == 1 + 3 * 3
    with torch.no_grad():
        frame = (pixels.permute(2, 0, 1) / 127.5 - 1)[None, :, None]
        clean = parts["vae"].encode(frame).latent_dist.mode()[0].double()
    assert off(found[:, :1], clean) < 1e-5
    loop = reference.FrameLoop(model)
    text = states(parts, PROMPTS[0])
    _, loop.cache = loop.run(clean, 0.0, text, [])
    loop.clean = list(clean.unbind(1))
    noise = NoiseStream((4, HEIGHT // 8, WIDTH // 8), 3, seed=SEED, base="fresh", first_frames=1)
    wanted = loop.sample(
        [text] * 3,
        [noise.chunk(index) for index in (1, 2, 3)],
        [(a, a, b) for a, b in pairwise(FEW)],
        step_noise=lambda chunk, step: noise.step(chunk + 1, step),
    )
    assert off(found, wanted) < 1e-3
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["video"]["frames"] == 1 + 3 * 12


@pytest.mark.parametrize("policy", ["semantic:top_l=1,recent=2,sink=1,coverage=1", "rolling:frames=7"])
def test_a_run_with_a_preset_is_gone_on_with(policy, pipeline, checkpoint, tmp_path):
    """A run that is stopped at the change of the prompt ends with the latents of one that is not."""
    from bdiff.run import Parts, SampleConfig, build, generate_chunks, make_video
    from bdiff_core import Storyboard

    file, _ = checkpoint
    setting = {"height": HEIGHT, "width": WIDTH, "prompt_switch": "recompute"}
    config = SampleConfig(
        storyboard=Storyboard.from_prompts(PROMPTS), out=tmp_path / "run", model=pipeline, policy=policy, seed=SEED,
        parts=Parts.located(transformer=str(file)), preset="longlive", settings=setting,
    )  # fmt: skip
    whole = [chunk.latents for chunk in generate_chunks(build(config), decode=False)]

    class StopError(Exception):
        pass

    def stop(progress):
        if progress.done in (5, 6):
            raise StopError

    run = build(config)
    with pytest.raises(StopError):
        make_video(run, on_chunk=stop)
    with pytest.raises(StopError):
        make_video(run, fresh=False, on_chunk=stop)
    make_video(run, fresh=False)
    state = RunState(tmp_path / "run")
    assert [off(state.chunk(index).latents, latents) for index, latents in enumerate(whole)] == pytest.approx(
        [0.0] * len(whole), abs=1e-5
    )


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main(list(map(str, arguments)))
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert said.count("\n") == 1
    return said


def test_a_chunk_causal_checkpoint_is_recognised_or_asked_about(pipeline, checkpoint, tmp_path, capsys):
    file, _ = checkpoint
    arguments = ["sample", "--model", pipeline, "--prompt", "a fox at sea", "--out", tmp_path / "run"]
    said = refused(capsys, *arguments, "--transformer", file)
    assert "model.pt makes videos chunk by chunk and does not say how it is sampled; give --preset, one of" in said
    assert not (tmp_path / "run").exists()
    said = refused(capsys, *arguments, "--transformer", file, "--preset", "self-forcin")
    assert "preset is 'self-forcin'; expected one of self-forcing, " in said
    named = tmp_path / "self_forcing_dmd.pt"
    named.write_bytes(file.read_bytes())
    sampled(pipeline, tmp_path / "run", "--transformer", named, prompts=PROMPTS[:1])
    assert "sampled as self-forcing, by the name of the checkpoint" in capsys.readouterr().err
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["sampling"]["timesteps"] == [1000, 750, 500, 250]
    assert record["sampling"]["guidance"] == 1.0


def test_steps_of_a_few_step_model_are_not_chosen(pipeline, checkpoint, tmp_path, capsys):
    arguments = ["sample", "--model", pipeline, "--prompt", "a fox", "--transformer", checkpoint[0]]
    said = refused(capsys, *arguments, "--preset", "self-forcing", "--steps", "8", "--out", tmp_path / "run")
    assert "--steps has no effect on the timesteps 1000, 750, 500, 250 of a few-step model; leave it out" in said


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("checkpoints/self_forcing_dmd.pt", "self-forcing"),
        ("gdhe17/Self-Forcing/checkpoints/self_forcing_sid.pt", "self-forcing"),
        ("wlsaidhi/SFWan2.1-T2V-1.3B-Diffusers", "self-forcing"),
        ("checkpoints/chunkwise/causal_forcing.pt", "causal-forcing"),
        ("checkpoints/framewise/causal_ode.pt", "causal-forcing-framewise"),
        ("causal-forcing++/framewise-2step.pt", "causal-forcing-2step"),
        ("chunkwise/ar_diffusion.pt", "causal-forcing-ar"),
        ("longlive_models/longlive_base.pt", "longlive"),
        ("CausVid/autoregressive_checkpoint/model.pt", "causvid"),
        ("Reward-Forcing-T2V-1.3B/rewardforcing.pt", "reward-forcing"),
        ("runs/model.pt", None),
        ("longlive/self_forcing.pt", None),
    ],
)
def test_checkpoints_are_recognised_by_name(path, name):
    assert recognised(path) == name


def test_presets_are_listed(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["presets"])
    said = capsys.readouterr().out
    assert stopped.value.code == 0
    assert [line for line in said.splitlines() if re.match(r"[a-z]", line)] == list(PRESETS)
    with pytest.raises(SystemExit):
        main(["presets", "--json"])
    assert json.loads(capsys.readouterr().out)["longlive"]["settings"]["memory"] == "sink:frames=3,window=6,least=3"
