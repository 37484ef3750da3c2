import sys

import pytest
import torch

from vde_metrics import Encoder, LaionAesthetic, PretrainedEncoder

SIDE = 32


def pictures(tools):
    """A coloured picture, a wide one and a tall one."""
    colour = torch.tensor([1.0, 0.6, 0.3])
    sizes = ((40, 40), (36, 60), (70, 33))
    return [(tools.texture(*size, seed=i) * colour).byte() for i, size in enumerate(sizes)]


SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}


PATCHES = {"image_size": SIDE, "patch_size": 8}


WORDS = {"vocab_size": 40, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def checkpoint(kind, folder):
    """A small random model and its image preparation, as transformers writes them."""
    import transformers as t

    torch.manual_seed(0)
    size = {"height": SIDE, "width": SIDE}
    if kind == "clip":
        config = t.CLIPConfig(text_config=SMALL | WORDS, vision_config=SMALL | PATCHES, projection_dim=12)
        model = t.CLIPModel(config)
        processor = t.CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=size)
    elif kind == "siglip":
        model = t.SiglipModel(t.SiglipConfig(text_config=SMALL | WORDS, vision_config=SMALL | PATCHES))
        processor = t.SiglipImageProcessorPil(size=size)
    elif kind == "dinov2":
        model = t.Dinov2Model(t.Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, **PATCHES))
        processor = t.BitImageProcessorPil(size={"shortest_edge": SIDE + 8}, crop_size=size)
    else:  # the first DINO has no pooling layer
        model = t.ViTModel(t.ViTConfig(**SMALL, **PATCHES), add_pooling_layer=False)
        processor = t.ViTImageProcessorPil(size=size)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model.eval(), processor


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    pytest.importorskip("transformers")
    pytest.importorskip("PIL")
    made = {}

    def make(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            made[kind] = (folder, *checkpoint(kind, folder))
        return made[kind]

    return make


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2", "vit"])
def test_pretrained_encoders_give_what_the_model_gives(checkpoints, tools, kind):
    folder, model, processor = checkpoints(kind)
    encoder = PretrainedEncoder(folder)
    assert isinstance(encoder, Encoder)
    found = encoder.encode(pictures(tools))
    for picture, embedding in zip(pictures(tools), found, strict=True):
        inputs = processor(images=picture.numpy(), return_tensors="pt")
        with torch.no_grad():
            expected = {
                "clip": lambda x=inputs: model.get_image_features(**x).pooler_output,
                "siglip": lambda x=inputs: model.vision_model(**x).pooler_output,
                "dinov2": lambda x=inputs: model(**x).pooler_output,  # the class token
                "vit": lambda x=inputs: model(**x).last_hidden_state[:, 0],
            }[kind]()
        assert torch.allclose(embedding, expected[0], atol=1e-5)
    assert found.shape[1] == encoder.dim == (12 if kind == "clip" else 16)
    assert encoder.encode([]).shape == (0, encoder.dim)
    assert encoder.name.startswith(f"{kind} {encoder.dim}d ")


def test_the_name_is_that_of_the_weights_not_of_the_folder(checkpoints, tmp_path):
    folder, model, processor = checkpoints("vit")
    model.save_pretrained(tmp_path / "copy")
    processor.save_pretrained(tmp_path / "copy")
    name = PretrainedEncoder(folder).name
    assert PretrainedEncoder(tmp_path / "copy").name == name
    type(processor)(size=processor.size, image_mean=[0.4, 0.5, 0.6]).save_pretrained(tmp_path / "copy")
    assert PretrainedEncoder(tmp_path / "copy").name != name


def test_half_a_model_is_refused(checkpoints, tmp_path):
    from safetensors.torch import load_file, save_file

    folder, _, _ = checkpoints("dinov2")
    for file in ("config.json", "preprocessor_config.json"):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    state = load_file(folder / "model.safetensors")
    state.pop("layernorm.weight")
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"the weights lack layernorm\.weight"):
        PretrainedEncoder(tmp_path).encode([torch.zeros(40, 40, 3, dtype=torch.uint8)])


def test_other_models_are_refused(checkpoints, tmp_path):
    folder, _, _ = checkpoints("vit")
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="the model has the type 'bert'; expected one of vit, dinov2"):
        PretrainedEncoder(tmp_path).encode([torch.zeros(40, 40, 3, dtype=torch.uint8)])


def test_missing_files_are_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    message = r"preprocessor_config\.json, .*model\.safetensors: no such file; .* should be a folder with config\.json"
    with pytest.raises(FileNotFoundError, match=message):
        PretrainedEncoder(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder; it should be a folder with"):
        PretrainedEncoder(tmp_path / "nowhere")


def test_without_transformers_the_extra_is_named(checkpoints, monkeypatch):
    folder, _, _ = checkpoints("vit")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'vde-metrics\[encoders\]'"):
        PretrainedEncoder(folder).encode([torch.zeros(40, 40, 3, dtype=torch.uint8)])


def test_laion_layers_on_a_clip(checkpoints, tools, tmp_path):
    folder, _, _ = checkpoints("clip")
    encoder = PretrainedEncoder(folder)
    layer = torch.nn.Linear(12, 1)
    torch.save(layer.state_dict(), tmp_path / "linear.pth")
    predictor = LaionAesthetic(tmp_path / "linear.pth", encoder=encoder)
    frames = torch.stack([tools.texture(40, 40, seed=i) for i in range(3)])
    with torch.no_grad():
        expected = layer(torch.nn.functional.normalize(encoder.encode(list(frames)), dim=-1))[:, 0]
    assert torch.allclose(predictor.predict(frames), expected, atol=1e-5)
    assert predictor.name.endswith(f"on {encoder.name}")
