"""Wan's own folder is read into the classes of diffusers and transformers, against plain modules in Wan's names."""

import importlib.util
from pathlib import Path

import pytest
import torch

from bdiff_core.wan import is_original, load_original_text_encoder, load_original_vae

pytest.importorskip("diffusers", reason="the autoencoder is that of diffusers")
transformers = pytest.importorskip("transformers", reason="the text encoder is that of transformers")


@pytest.fixture(scope="module")
def plain():
    file = Path(__file__).with_name("original_wan.py")
    spec = importlib.util.spec_from_file_location("original_wan", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["<pad>", "</s>", "<unk>", "▁a", "▁fox", "▁cat", "▁at", "▁sea", "▁", "s", "e", "a", "t", "x"]
    made = Tokenizer(models.Unigram([(word, -float(rank)) for rank, word in enumerate(words)], unk_id=2))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, **names), len(words)


@pytest.fixture(scope="module")
def original(plain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("Wan2.1")
    return folder, *plain.save_original(folder, *tokenizer())


@pytest.mark.parametrize("frames", [1, 5, 13])
def test_the_autoencoder_is_the_original_one(original, frames):
    folder, vae, _ = original
    ours = load_original_vae(folder)
    video = 2 * torch.rand(1, 3, frames, 16, 24, generator=torch.Generator().manual_seed(frames)) - 1
    latents = ours.encode(video)[0]
    torch.testing.assert_close(latents, vae.encode(video), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.decode(latents)[0], vae.decode(latents), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prompt", ["a fox", "a cat at sea " * 20])
def test_the_text_encoder_is_the_original_one(original, prompt):
    folder, _, encoder = original
    words, _ = tokenizer()
    ids = words([prompt.strip()]).input_ids[0]
    found = load_original_text_encoder(folder, text_length=128).encode([prompt]).tokens[0]
    torch.testing.assert_close(found[: len(ids)], encoder(torch.tensor(ids)), rtol=1e-4, atol=1e-5)
    assert not found[len(ids) :].any()


def test_a_file_is_named_by_itself_and_read_in_another_dtype(original):
    folder, *_ = original
    vae = load_original_vae(folder / "Wan2.1_VAE.pth", dtype=torch.bfloat16)
    assert vae.latent_channels == 4
    assert vae.decode(torch.zeros(1, 4, 1, 2, 2, dtype=torch.bfloat16))[0].dtype == torch.bfloat16
    assert is_original(folder)
    assert not is_original(folder / "google")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: state.pop("decoder.head.2.bias"), "does not fit: decoder.conv_out.bias is missing"),
        (lambda state: state.pop("encoder.conv1.weight"), "is no autoencoder of Wan 2.1; expected Wan2.1_VAE.pth"),
        (lambda state: state.update(extra=torch.ones(2)), "does not fit: extra is of no such parameter"),
        (lambda state: state["conv2.bias"].fill_(torch.nan), "not finite"),
    ],
)
def test_an_autoencoder_that_does_not_fit_is_refused(plain, tmp_path, spoil, message):
    state = {name: weight.clone() for name, weight in plain.shaken(plain.OriginalVAE()).state_dict().items()}
    spoil(state)
    torch.save(state, tmp_path / "Wan2.1_VAE.pth")
    with pytest.raises(ValueError, match=message):
        load_original_vae(tmp_path)


def test_what_the_folder_lacks_is_named(plain, tmp_path):
    with pytest.raises(ValueError, match=r"has no Wan2.1_VAE.pth; expected it there, or give --vae"):
        load_original_vae(tmp_path)
    with pytest.raises(ValueError, match=r"has no models_t5_umt5-xxl-enc-bf16.pth; expected it there, or give --text"):
        load_original_text_encoder(tmp_path)
    torch.save(plain.OriginalText(14).state_dict(), tmp_path / "models_t5_umt5-xxl-enc-bf16.pth")
    with pytest.raises(ValueError, match=r"has no google/umt5-xxl/, the tokenizer; expected it beside models_t5"):
        load_original_text_encoder(tmp_path)
    torch.save({"token_embedding.weight": torch.ones(2, 2)}, tmp_path / "models_t5_umt5-xxl-enc-bf16.pth")
    (tmp_path / "google" / "umt5-xxl").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"is no text encoder of Wan 2.1"):
        load_original_text_encoder(tmp_path)
