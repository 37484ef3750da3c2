"""Pipelines of diffusers, made small and random by diffusers and transformers themselves, run by `bdiff sample`."""

import json
import shutil
import weakref
from fnmatch import fnmatch

import av
import pytest
import torch

from bdiff.cli.main import main
from bdiff.output import VideoWriter
from bdiff.run import RunState, SampleConfig, build, make_spec, make_video
from bdiff_core import Storyboard

diffusers = pytest.importorskip("diffusers", reason="pipelines are those of diffusers")
transformers = pytest.importorskip("transformers", reason="their text encoders are those of transformers")

HEIGHT, WIDTH, FRAMES = 32, 48, 3


def shaken(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        p.data = p.data + 0.1 * torch.randn(p.shape, generator=generator)
    return module.eval()


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["<pad>", "</s>", "<unk>", "▁a", "▁fox", "▁cat", "▁at", "▁sea", "▁", "s", "e", "a", "t", "x"]
    plain = Tokenizer(models.Unigram([(word, -float(rank)) for rank, word in enumerate(words)], unk_id=2))
    plain.pre_tokenizer = pre_tokenizers.Metaspace()
    plain.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=plain, **names), len(words)


def parts(kind, **sizes):
    small = {
        "num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4, "text_dim": 16,
        "freq_dim": 16, "ffn_dim": 24, "num_layers": 2,
    }  # fmt: skip
    words, count = tokenizer()
    text = {"vocab_size": count, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 2}
    torch.manual_seed(0)
    return {
        "transformer": shaken(getattr(diffusers, kind)(**small | sizes)),
        "vae": shaken(
            diffusers.AutoencoderKLWan(
                base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 4,
                latents_std=[1.0] * 4,
            )
        ),
        "text_encoder": shaken(transformers.UMT5EncoderModel(transformers.UMT5Config(**text))),
        "tokenizer": words,
        "scheduler": diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    }  # fmt: skip


def saved(pipeline, folder):
    pipeline.save_pretrained(folder)
    settings = {"latent_frames": FRAMES, "height": HEIGHT, "width": WIDTH, "steps": 3}
    (folder / "sampling.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def wan(tmp_path_factory):
    return saved(diffusers.WanPipeline(**parts("WanTransformer3DModel")), tmp_path_factory.mktemp("wan"))


@pytest.fixture(scope="module")
def skyreels(tmp_path_factory):
    pipeline = diffusers.SkyReelsV2DiffusionForcingPipeline(**parts("SkyReelsV2Transformer3DModel"))
    return saved(pipeline, tmp_path_factory.mktemp("skyreels"))


def picture_parts(kind):
    """Those of an image-to-video pipeline: channels for a mask and a picture, CLIP tokens with keys of their own."""
    torch.manual_seed(1)
    clip = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=20, num_hidden_layers=3, num_attention_heads=2, image_size=14, patch_size=7
    )
    return parts(kind, in_channels=12, image_dim=16, added_kv_proj_dim=24) | {
        "image_encoder": shaken(transformers.CLIPVisionModel(clip)),
        "image_processor": transformers.CLIPImageProcessorPil(
            size={"shortest_edge": 14}, crop_size={"height": 14, "width": 14}
        ),
    }


OF_PICTURES = {
    "wan": ("WanImageToVideoPipeline", "WanTransformer3DModel"),
    "skyreels": ("SkyReelsV2ImageToVideoPipeline", "SkyReelsV2Transformer3DModel"),
}


@pytest.fixture(scope="module")
def of_pictures(tmp_path_factory):
    """Folders of image-to-video pipelines by family."""
    folders = {}
    for family, (pipeline, transformer) in OF_PICTURES.items():
        made = getattr(diffusers, pipeline)(**picture_parts(transformer))
        folders[family] = saved(made, tmp_path_factory.mktemp(family))
    return folders


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    from PIL import Image

    path = tmp_path_factory.mktemp("picture") / "cat.png"
    pixels = torch.randint(0, 256, (HEIGHT, WIDTH, 3), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(path)
    return path


def count_frames(run):
    with av.open(str(run / "video.mp4")) as container:
        return sum(1 for _ in container.decode(video=0))


def test_a_wan_pipeline_gives_the_latents_that_diffusers_gives(wan, tmp_path):
    board = Storyboard.from_prompts(["a fox at sea"])
    loaded = build(SampleConfig(storyboard=board, out=tmp_path / "run", model=wan, seed=5))
    assert (loaded.sampling.mode, loaded.sampling.solver, loaded.sampling.guidance) == ("whole", "scheduler", 5.0)
    make_video(loaded)
    from noisesched import NoiseStream

    noise = NoiseStream((4, HEIGHT // 8, WIDTH // 8), FRAMES, seed=5, base="fresh").chunk(0)
    theirs = diffusers.WanPipeline(**parts("WanTransformer3DModel"))
    theirs.set_progress_bar_config(disable=True)
    expected = theirs(
        "a fox at sea", negative_prompt="", height=HEIGHT, width=WIDTH, num_frames=4 * FRAMES - 3,
        num_inference_steps=3, guidance_scale=5.0, latents=noise.transpose(0, 1)[None], output_type="latent",
    ).frames  # fmt: skip
    found = RunState(tmp_path / "run").chunk(0).latents
    assert ((found - expected).norm() / expected.norm()).item() < 1e-3
    assert count_frames(tmp_path / "run") == 4 * FRAMES - 3


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A video that shows two chunks and a little more."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with VideoWriter(path, fps=24, height=HEIGHT, width=WIDTH) as video:
        video.add(torch.randint(0, 256, (22, HEIGHT, WIDTH, 3), dtype=torch.uint8))
    return path


@pytest.mark.parametrize("steps", ["euler", "scheduler", "renoise"])
@pytest.mark.parametrize("guidance", ["1", "2"])
@pytest.mark.parametrize(
    ("task", "mode"),
    [
        *(("text to video", mode) for mode in ("whole", "overlap", "cached")),
        ("image to video", "whole"),
        *(("continuation", mode) for mode in ("overlap", "cached")),
    ],
)
def test_pipelines_run_end_to_end(
    wan, skyreels, of_pictures, picture, clip, tmp_path, task, mode, guidance, steps, capsys
):
    """Every task, with and without guidance, by Euler's steps, the pipeline's UniPC, or four steps of noise anew."""
    model = of_pictures["wan"] if task == "image to video" else {"whole": wan}.get(mode, skyreels)
    given = {"image to video": ["--image", str(picture)], "continuation": ["--init-video", str(clip)]}.get(task, [])
    few = ["--steps", "4"] if steps == "renoise" else []
    options = ["--mode", mode, "--guidance", guidance, "--solver", steps, *few, *given]
    prompts = [argument for word in ("fox", "cat", "fox") for argument in ("--prompt", f"a {word} at sea")]
    prompts = prompts[:2] if mode == "whole" or task == "continuation" else prompts
    with pytest.raises(SystemExit) as stopped:
        main(["sample", "--model", str(model), "--out", str(tmp_path / "run"), "--json", *prompts, *options])
    said = capsys.readouterr()
    assert stopped.value.code == 0, said.err
    record = json.loads(said.out)
    assert record["sampling"]["mode"] == mode
    chunks = {"whole": 1}.get(mode, 3)
    assert record["video"]["frames"] == count_frames(tmp_path / "run") == 4 * FRAMES * chunks - 3
    assert all(RunState(tmp_path / "run").chunk(index).latents.isfinite().all() for index in range(chunks))


@pytest.mark.parametrize(
    ("family", "guidance", "kind"),
    [("wan", 5.0, "unipc"), ("wan", 1.0, "unipc"), ("wan", 5.0, "euler"), ("skyreels", 5.0, "unipc")],
)
def test_an_image_to_video_pipeline_gives_the_latents_that_diffusers_gives(
    of_pictures, picture, tmp_path, family, guidance, kind, capsys
):
    from PIL import Image

    from noisesched import NoiseStream

    folder, run, prompt = of_pictures[family], tmp_path / "run", "a cat at sea"
    pipeline, transformer = OF_PICTURES[family]
    made = picture_parts(transformer)
    if kind == "euler":
        made["scheduler"] = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
        folder = tmp_path / "euler"
        saved(getattr(diffusers, pipeline)(**made), folder)
    arguments = ["sample", "--model", str(folder), "--image", str(picture), "--prompt", prompt, "--out", str(run)]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--seed", "5", "--guidance", str(guidance), "--json"])
    said = capsys.readouterr()
    assert stopped.value.code == 0, said.err
    noise = NoiseStream((4, HEIGHT // 8, WIDTH // 8), FRAMES, seed=5, base="fresh").chunk(0)
    theirs = getattr(diffusers, pipeline)(**made)
    theirs.set_progress_bar_config(disable=True)
    expected = theirs(
        Image.open(picture), prompt, negative_prompt="", height=HEIGHT, width=WIDTH, num_frames=4 * FRAMES - 3,
        num_inference_steps=3, guidance_scale=guidance, latents=noise.transpose(0, 1)[None], output_type="latent",
    ).frames  # fmt: skip
    found = RunState(run).chunk(0).latents
    assert ((found - expected).norm() / expected.norm()).item() < 1e-3
    record = json.loads(said.out)
    assert record["video"]["frames"] == count_frames(run) == 4 * FRAMES - 3
    assert record["sampling"]["fps"] == (24 if family == "skyreels" else 16)
    assert "image_encoder/model.safetensors" in record["weights"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "an image-to-video model, and no picture to begin with; give --image FILE"),
        (["--image", "{cat}", "--mode", "cached"], "an image-to-video model; expected --mode whole, got cached"),
        (["--image", "none.png"], "none.png: cannot read the picture: no such file or directory"),
        (["--image", "{cat}", "--model", "{wan}"], "--image needs an image-to-video model in the whole mode"),
        (["--image", "{cat}", "--model", "{bare}"], "bare: cannot load the image encoder"),
    ],
)
def test_what_a_picture_does_not_fit_is_said_in_one_line(
    of_pictures, wan, picture, tmp_path, options, said, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    bare = tmp_path / "bare"
    if "{bare}" in options:
        shutil.copytree(of_pictures["wan"], bare, ignore=shutil.ignore_patterns("image_encoder"))
    options = [option.format(cat=picture, wan=wan, bare=bare) for option in options]
    with pytest.raises(SystemExit) as stopped:
        main(
            ["sample", "--model", str(of_pictures["wan"]), "--prompt", "a fox", "--out", str(tmp_path / "x"), *options]
        )
    error = capsys.readouterr().err
    assert (stopped.value.code, error.count("\n")) == (2, 1)
    assert said in error
    assert not (tmp_path / "x").exists()


def test_with_offload_the_encoders_are_gone_before_the_transformer_is_loaded(
    of_pictures, picture, tmp_path, monkeypatch
):
    """One part after the other, and the same video as with all of them at once."""
    from bdiff.run import source
    from bdiff_core.checkpoint import Checkpoint

    alive, seen, load_transformer = [], [], Checkpoint.load

    def watched(load):
        def watching(*args, **kwargs):
            loaded = load(*args, **kwargs)
            alive.append(weakref.ref(loaded[0] if isinstance(loaded, tuple) else loaded._encoder))
            return loaded

        return watching

    def see(*args, **kwargs):
        seen.append([ref() is not None for ref in alive])
        return load_transformer(*args, **kwargs)

    monkeypatch.setattr(source.UMT5TextEncoder, "load", watched(source.UMT5TextEncoder.load))
    monkeypatch.setattr(source, "load_image_encoder", watched(source.load_image_encoder))
    monkeypatch.setattr(Checkpoint, "load", see)
    board, films = Storyboard.from_prompts(["a cat at sea"]), {}
    for offload in (None, False):
        config = SampleConfig(
            storyboard=board, out=tmp_path / str(offload), model=of_pictures["wan"], image=picture, offload=offload
        )
        parts = build(config)
        assert not any(ref() for ref in alive[-2:])  # released before sampling in any case
        assert make_video(parts)["offload"] is (offload is None)
        films[offload] = (config.out / "video.mp4").read_bytes()
    assert seen[0] == [False, False]
    assert films[None] == films[False]


def test_an_autoencoder_on_demand_is_on_the_device_only_while_it_codes():
    from bdiff.run.offload import OnDemand

    class Watched:
        latent_channels, spatial_stride, moves = 4, 8, []

        def to(self, device):
            self.moves.append(str(device))

        def decode(self, latents, state=None):
            self.moves.append("decode")
            if state == "bad":
                raise RuntimeError(state)
            return latents, state

        encode = decode

    vae = OnDemand(Watched(), torch.device("cuda:1"))
    assert (vae.device, vae.latent_channels, vae.spatial_stride) == (torch.device("cuda:1"), 4, 8)
    assert Watched.moves == ["cpu"]
    assert vae.decode("latents", "state") == ("latents", "state")
    assert vae.encode("frames") == ("frames", None)
    with pytest.raises(RuntimeError):
        vae.decode("latents", "bad")
    assert Watched.moves == ["cpu", *["cuda:1", "decode", "cpu"] * 3]


def test_a_plan_counts_the_numbers_of_a_pipelines_parts(of_pictures, picture):
    from bdiff.run import plan_run

    board = Storyboard.from_prompts(["a cat at sea"])
    config = SampleConfig(storyboard=board, model=of_pictures["wan"], image=picture, offload=False, dtype="bfloat16")
    plan, made = plan_run(make_spec(config), memory_limit=0), picture_parts("WanTransformer3DModel")
    folders = {"autoencoder": "vae", "text encoder": "text_encoder", "image encoder": "image_encoder"}
    for name, folder in folders.items():
        assert plan.memory[name] == 2 * sum(p.numel() for p in made[folder].parameters())


@pytest.mark.parametrize(("mode", "chunks", "in_view"), [("whole", 8, 24), ("overlap", 8, 15), ("cached", 8, 15)])
def test_more_frames_than_a_model_was_trained_with_are_called_an_extrapolation(
    wan, tmp_path, mode, chunks, in_view, capsys
):
    """Wan's saw 21 latent frames at once; what sees part of the video at a time stays below, however long it is."""
    shown = ("at sea", "at sea" if mode == "whole" else "at sea a")
    prompts = [word for index in range(chunks) for word in ("--prompt", f"a fox {shown[index % 2]}")]
    with pytest.raises(SystemExit) as stopped:
        main(["plan", "--model", str(wan), "--mode", mode, "--json", *prompts])
    plan = json.loads(capsys.readouterr().out)
    assert stopped.value.code == 0
    assert (plan["frames_in_view"], plan["trained_frames"], plan["extrapolates"]) == (in_view, 21, in_view > 21)
    with pytest.raises(SystemExit):
        main(["plan", "--model", str(wan), "--mode", mode, *prompts])
    assert ("an extrapolation: the model was trained with 21 at most" in capsys.readouterr().out) == (in_view > 21)


def test_a_repository_of_the_hub_is_fetched_with_what_a_pipeline_needs(wan, tmp_path, monkeypatch):
    import huggingface_hub

    from bdiff.run import local_folder

    asked = []

    def fetch(name, *, allow_patterns):
        """As the hub's client does it, from a folder on disk."""
        asked.append(name)
        for file in filter(lambda file: file.is_file(), wan.rglob("*")):
            path = file.relative_to(wan).as_posix()
            if any(fnmatch(path, pattern) for pattern in allow_patterns):
                (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, tmp_path / name / path)
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    folder = local_folder("owner/wan")
    build(SampleConfig(storyboard=Storyboard.from_prompts(["a fox"]), out=tmp_path / "x", model=folder))
    assert asked == ["owner/wan"]
    assert local_folder(folder) == folder


def test_a_pipeline_of_two_transformers_is_refused(wan, tmp_path, capsys):
    folder = tmp_path / "two"
    shutil.copytree(wan, folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"transformer_2": ["diffusers", "X"]}))
    with pytest.raises(SystemExit) as stopped:
        main(["sample", "--model", str(folder), "--prompt", "a fox", "--out", str(tmp_path / "x")])
    assert stopped.value.code == 2
    assert "has two transformers, as Wan 2.2 does" in capsys.readouterr().err


def test_a_pipeline_of_fastvideo_is_one_of_chunks(wan, tmp_path, capsys):
    """Its folder is that of diffusers, with a class of its own for the transformer and for the pipeline."""
    from bdiff.run import Source

    folder, kind = tmp_path / "fastvideo", "CausalWanTransformer3DModel"
    shutil.copytree(wan, folder)
    for file, change in (
        ("transformer/config.json", {"_class_name": kind}),
        ("model_index.json", {"_class_name": "WanCausalDMDPipeline", "transformer": ["diffusers", kind]}),
    ):
        (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | change))
    source, plain = (Source(folder=path, dtype=torch.float32, device="cpu") for path in (folder, wan))
    source.check()
    assert (source.config.native_mode, source.sampling().mode, source.trained_frames) == ("cached", "cached", 21)
    expected = plain.transformer().state_dict()
    assert all(torch.equal(p, expected[name]) for name, p in source.transformer().state_dict().items())
    options = ["--solver", "renoise", "--steps", "2", "--guidance", "1", "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as stopped:
        main(["sample", "--model", str(folder), "--prompt", "a fox", "--seconds", "1", *options])
    assert (stopped.value.code, "expect worse videos" in capsys.readouterr().err) == (0, False)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["sampling"]["mode"] == "cached"
    (folder / "sampling.json").unlink()  # then the class says that it is one of Self-Forcing
    assert source.preset() == "self-forcing"


def test_the_overlap_mode_goes_on_from_a_video(skyreels, clip, tmp_path, capsys):
    """Its windows begin with the given latents; gone on with, the video is the same without the file."""
    given, run = shutil.copy(clip, tmp_path / "clip.mp4"), tmp_path / "run"
    arguments = ["sample", "--model", str(skyreels), "--out", str(run), "--guidance", "1", "--init-video", str(given)]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--prompt", "a fox at sea"])
    assert (stopped.value.code, "gives the first 2 chunks" in capsys.readouterr().err) == (0, True)
    assert count_frames(run) == 4 * FRAMES * 3 - 3
    made = (run / "video.mp4").read_bytes()
    given.unlink()
    (run / "run.json").unlink()
    with pytest.raises(SystemExit) as stopped:
        main(["resume", str(run)])
    assert (stopped.value.code, (run / "video.mp4").read_bytes()) == (0, made)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--init-video", "clip.mp4"], "the whole mode makes all frames at once and goes on from no video"),
        (["--height", "36"], "height is 36; expected a multiple of 16"),
        (["--model", "{tmp}/none"], "is no folder"),
        (["--solver", "scheduler", "--model", "{tiny}"], "has no scheduler"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(wan, tiny_model, tmp_path, options, said, capsys):
    options = [option.format(tmp=tmp_path, tiny=tiny_model) for option in options]
    with pytest.raises(SystemExit) as stopped:
        main(["sample", "--model", str(wan), "--prompt", "a fox", "--out", str(tmp_path / "run"), *options])
    error = capsys.readouterr().err
    assert (stopped.value.code, error.count("\n")) == (2, 1)
    assert said in error
