"""The parts around a Wan transformer equal those of the published pipelines, and stream."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from bdiff_core import Decoder, TextEncoder
from bdiff_core.wan import Tiling, UMT5TextEncoder, WanVAE, clean_prompt, image_condition, load_image_encoder

diffusers = pytest.importorskip("diffusers", reason="the published parts are in diffusers")
transformers = pytest.importorskip("transformers", reason="the published text encoder is in transformers")


def random_weights(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        p.data = p.data + 0.05 * torch.randn(p.shape, generator=generator)
    return module


@pytest.fixture(scope="module")
def published_vae():
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKLWan(
        base_dim=6, z_dim=4, dim_mult=[1, 2, 2, 2], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.4, 0.2, 0.0], latents_std=[1.5, 0.7, 1.0, 2.0],
    )  # fmt: skip
    return random_weights(vae).eval()


def clip(frames, height=16, width=24, seed=0):
    return torch.rand(1, 3, frames, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def statistics(vae):
    return (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (vae.config.latents_mean, vae.config.latents_std))


def normalised(vae, latents):
    mean, std = statistics(vae)
    return (latents - mean) / std


@pytest.mark.parametrize("cuts", [(5,), (1, 4), (2, 2, 1), (1, 1, 1, 1, 1)])
def test_streamed_decoding_is_whole_decoding(published_vae, cuts):
    latents = torch.randn(1, 4, 5, 2, 3, generator=torch.Generator().manual_seed(1))
    vae, state, frames = WanVAE(published_vae), None, []
    assert isinstance(vae, Decoder)
    for part in latents.split(cuts, dim=2):
        some, state = vae.decode(part, state)
        frames.append(some)
    mean, std = (
        torch.tensor(v).view(1, -1, 1, 1, 1) for v in (vae._vae.config.latents_mean, vae._vae.config.latents_std)
    )
    with torch.no_grad():
        expected = published_vae.decode(latents * std + mean).sample
    torch.testing.assert_close(torch.cat(frames, dim=2), expected, rtol=1e-5, atol=1e-5)
    assert [f.shape[2] for f in frames] == [4 * cuts[0] - 3, *(4 * n for n in cuts[1:])]


@pytest.mark.parametrize("cuts", [(13,), (1, 12), (5, 4, 4)])
def test_streamed_encoding_is_whole_encoding(published_vae, cuts):
    vae, state, latents = WanVAE(published_vae), None, []
    for part in clip(13).split(cuts, dim=2):
        some, state = vae.encode(part, state)
        latents.append(some)
    with torch.no_grad():
        expected = normalised(published_vae, published_vae.encode(clip(13)).latent_dist.mode())
    torch.testing.assert_close(torch.cat(latents, dim=2), expected, rtol=1e-5, atol=1e-5)


def test_a_state_can_be_gone_on_from_twice(published_vae):
    """Nothing in a state is changed by what is decoded after it: a chunk can be made anew."""
    latents = torch.randn(1, 4, 4, 2, 3, generator=torch.Generator().manual_seed(1))
    vae = WanVAE(published_vae)
    _, state = vae.decode(latents[:, :, :2])
    once, _ = vae.decode(latents[:, :, 2:], state)
    again, _ = vae.decode(latents[:, :, 2:], state)
    assert torch.equal(once, again)


def test_streamed_tiles_are_the_published_tiles(published_vae):
    tiling = Tiling(size=32, stride=24)
    latents = torch.randn(1, 4, 2, 5, 6, generator=torch.Generator().manual_seed(1))
    vae, state, frames = WanVAE(published_vae, tiling=tiling), None, []
    for part in latents.split(1, dim=2):
        some, state = vae.decode(part, state)
        frames.append(some)
    mean, std = (
        torch.tensor(v).view(1, -1, 1, 1, 1) for v in (vae._vae.config.latents_mean, vae._vae.config.latents_std)
    )
    sizes = {
        f"tile_sample_{kind}_{side}": value
        for kind, value in (("min", 32), ("stride", 24))
        for side in ("height", "width")
    }
    published_vae.enable_tiling(**sizes)
    try:
        with torch.no_grad():
            expected = published_vae.decode(latents * std + mean).sample
            encoded = normalised(published_vae, published_vae.encode(clip(5, 40, 48)).latent_dist.mode())
    finally:
        published_vae.disable_tiling()
    torch.testing.assert_close(torch.cat(frames, dim=2), expected, rtol=1e-5, atol=1e-5)
    first, state = vae.encode(clip(5, 40, 48)[:, :, :1])
    rest, _ = vae.encode(clip(5, 40, 48)[:, :, 1:], state)
    torch.testing.assert_close(torch.cat([first, rest], dim=2), encoded, rtol=1e-5, atol=1e-5)


def test_the_state_does_not_grow(published_vae):
    def held(state):
        return sum(t.numel() for tile in state for t in tile if isinstance(t, torch.Tensor))

    vae, state, sizes = WanVAE(published_vae), None, []
    for _ in range(4):
        _, state = vae.decode(torch.zeros(1, 4, 1, 2, 3), state)
        sizes.append(held(state))
    assert sizes[2] == sizes[-1]


def test_frames_that_do_not_fit_a_stream_are_refused(published_vae):
    vae = WanVAE(published_vae)
    with pytest.raises(ValueError, match=r"got 4 frames; .* at the start"):
        vae.encode(clip(4))
    _, state = vae.encode(clip(1))
    with pytest.raises(ValueError, match=r"got 5 frames; .* later"):
        vae.encode(clip(5), state)
    with pytest.raises(ValueError, match="multiples of 8"):
        Tiling(size=100, stride=50)


@pytest.fixture(scope="module")
def pipeline_folder(tmp_path_factory):
    """`text_encoder` and `tokenizer` of a pipeline, small and random, as transformers saves them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("pipeline")
    words = ["<pad>", "</s>", "<unk>", "▁the", "▁fox", "▁walks", "▁through", "▁a", "▁meadow", "▁", "s", "e", "a"]
    plain = Tokenizer(models.Unigram([(word, -float(i)) for i, word in enumerate(words)], unk_id=2))
    plain.pre_tokenizer = pre_tokenizers.Metaspace()
    plain.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder / "tokenizer")
    torch.manual_seed(0)
    config = transformers.UMT5Config(
        vocab_size=len(words), d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=2, pad_token_id=0, eos_token_id=1
    )
    random_weights(transformers.UMT5EncoderModel(config)).save_pretrained(folder / "text_encoder")
    return folder


def test_prompts_are_encoded_as_the_pipeline_does(pipeline_folder):
    prompts = ["the fox walks", "the  fox &amp;amp; a\nmeadow ", "a" * 9]
    encoder = UMT5TextEncoder.load(pipeline_folder, text_length=24)
    assert isinstance(encoder, TextEncoder)
    found = encoder.encode(prompts)
    pipe = diffusers.WanPipeline(
        tokenizer=transformers.AutoTokenizer.from_pretrained(pipeline_folder, subfolder="tokenizer"),
        text_encoder=transformers.UMT5EncoderModel.from_pretrained(pipeline_folder, subfolder="text_encoder").eval(),
        vae=None, scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), transformer=None,
    )  # fmt: skip
    with torch.no_grad():
        expected, _ = pipe.encode_prompt(prompts, do_classifier_free_guidance=False, max_sequence_length=24)
    torch.testing.assert_close(found.tokens, expected, rtol=1e-4, atol=1e-5)
    for states, embedding in zip(expected, found.embedding, strict=True):
        own = states[states.abs().sum(-1) > 0].mean(0)
        torch.testing.assert_close(embedding, own / own.norm(), rtol=1e-4, atol=1e-5)


def test_states_of_a_prompt_do_not_depend_on_those_beside_it(pipeline_folder):
    encoder = UMT5TextEncoder.load(pipeline_folder, text_length=24)
    together = encoder.encode(["the fox walks", "the fox and the meadow and the fox"])
    alone = encoder.encode(["the fox walks"])
    assert torch.equal(together.tokens[0], alone.tokens[0])
    assert torch.equal(together.embedding[0], alone.embedding[0])


def test_prompts_are_cleaned():
    assert clean_prompt("  a &amp;lt;b&gt;\n\tc ") == "a <b> c"


def test_missing_parts_are_said_in_one_line(tmp_path):
    for load in (WanVAE.load, UMT5TextEncoder.load):
        with pytest.raises(ValueError, match="cannot load") as error:
            load(tmp_path)
        assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def clip_encoder():
    torch.manual_seed(0)
    config = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=20, num_hidden_layers=3, num_attention_heads=2, image_size=14, patch_size=7
    )
    crop = {"height": 14, "width": 14}
    return (
        random_weights(transformers.CLIPVisionModel(config)).eval(),
        transformers.CLIPImageProcessorPil(size={"shortest_edge": 14}, crop_size=crop),
    )


def test_an_image_condition_is_that_of_the_pipeline(published_vae, clip_encoder):
    from PIL import Image

    encoder, processor = clip_encoder
    pixels = torch.randint(0, 256, (16, 24, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    picture = pixels.permute(2, 0, 1)[None] / 127.5 - 1
    found = image_condition(picture, WanVAE(published_vae), num_frames=9, encoder=encoder, processor=processor)
    pipe = diffusers.WanImageToVideoPipeline(
        tokenizer=None, text_encoder=None, vae=published_vae, scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        transformer=None, image_encoder=encoder, image_processor=processor,
    )  # fmt: skip
    with torch.no_grad():
        _, expected = pipe.prepare_latents(
            picture, 1, num_channels_latents=4, height=16, width=24, num_frames=9, dtype=torch.float32, device="cpu"
        )
    torch.testing.assert_close(found.extra, expected, rtol=1e-4, atol=1e-5)
    tokens = pipe.encode_image(Image.fromarray(pixels.numpy()), device="cpu")
    torch.testing.assert_close(found.image_tokens, tokens, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="4n - 3"):
        image_condition(picture, WanVAE(published_vae), num_frames=8)


@pytest.fixture
def parts(tmp_path, pipeline_folder, published_vae, clip_encoder):
    """The parts of a pipeline in a folder: what loads each, and the file of its weights."""
    shutil.copytree(pipeline_folder, tmp_path / "pipe")
    published_vae.save_pretrained(tmp_path / "pipe" / "vae")
    for part, name in zip(clip_encoder, ("image_encoder", "image_processor"), strict=True):
        part.save_pretrained(tmp_path / "pipe" / name)
    folder = tmp_path / "pipe"
    return {
        "vae": (lambda: WanVAE.load(folder / "vae"), folder / "vae" / "diffusion_pytorch_model.safetensors"),
        "text": (lambda: UMT5TextEncoder.load(folder), folder / "text_encoder" / "model.safetensors"),
        "image": (lambda: load_image_encoder(folder), folder / "image_encoder" / "model.safetensors"),
    }


@pytest.mark.parametrize("part", ["vae", "text", "image"])
def test_parts_with_weights_that_are_not_finite_are_refused(parts, part):
    load, file = parts[part]
    load()
    tensors = load_file(file)
    name = sorted(name for name in tensors if name.endswith("weight"))[1]
    tensors[name].view(-1)[0] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"holds numbers that are not finite, first in \S+; the file is damaged"):
        load()


@pytest.mark.parametrize("part", ["vae", "text", "image"])
def test_parts_that_lack_weights_are_refused(parts, part):
    """Libraries would make them up."""
    load, file = parts[part]
    tensors = load_file(file)
    ends = {"vae": "conv_in.bias", "text": "layer_norm.weight", "image": "layer_norm1.weight"}
    del tensors[next(name for name in sorted(tensors) if name.endswith(ends[part]))]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"is incomplete: \S+ is missing|cannot load"):
        load()


@pytest.mark.parametrize("part", ["vae", "text", "image"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "is a web page"),
        (b"", "is damaged: it is empty"),
    ],
)
def test_what_stands_in_place_of_a_part_is_named(parts, part, content, words):
    load, file = parts[part]
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{file.name} {words}[^\n]*$"):
        load()
    file.unlink()
    file.symlink_to("nowhere")
    with pytest.raises(ValueError, match="is a link to nowhere, which is not there"):
        load()
