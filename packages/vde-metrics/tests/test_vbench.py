"""VBench's definitions against derivations of their own, on the same random weights."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vde_metrics import LaionAesthetic, measure, vbench
from vde_metrics.vbench.consistency import ConsistencyScorer
from vde_metrics.vbench.imaging_quality import longer_side
from vde_metrics.vbench.motion_smoothness import border

SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
PATCHES = {"image_size": 32, "patch_size": 8}
WORDS = {"vocab_size": 40, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SIDE = 32
CLIP_COLOURS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
DINO_COLOURS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def video(tools, *, height=45, width=70, num_frames=9):
    """Frames that change enough for cosines to differ."""
    colour = torch.tensor([1.0, 0.7, 0.4])
    frames = tools.panning(num_frames, height, width, shift=(3, 7), seed=3).float()
    light = torch.linspace(1, 0.3, num_frames)[:, None, None, None]
    return (frames * light * colour).byte()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A ViT and a CLIP with random weights, as folders and as state dicts."""
    t = pytest.importorskip("transformers")
    torch.manual_seed(0)
    size = {"height": SIDE, "width": SIDE}
    made = {}
    dino = t.ViTModel(t.ViTConfig(**SMALL, **PATCHES), add_pooling_layer=False)
    torch.nn.init.normal_(dino.embeddings.position_embeddings)
    clip = t.CLIPModel(t.CLIPConfig(text_config=SMALL | WORDS, vision_config=SMALL | PATCHES, projection_dim=12))
    for name, model in (("dino", dino), ("clip", clip)):
        folder = tmp_path_factory.mktemp(name)
        model.save_pretrained(folder)
        t.ViTImageProcessorPil(size=size).save_pretrained(folder)
        made[name] = (folder, model.eval().state_dict())
    return made


def taps(x, *, cubic):
    """Neighbours and weights of one place: bilinear, or the cubic kernel with a = -0.75."""
    base = math.floor(x)
    if not cubic:
        return [(base, 1 - (x - base)), (base + 1, x - base)]
    a, found = -0.75, []
    for i in range(base - 1, base + 3):
        d = abs(x - i)
        near = (a + 2) * d**3 - (a + 3) * d**2 + 1
        far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
        found.append((i, near if d <= 1 else far))
    return found


def resampling(n, m, scale, *, cubic):
    """Matrix [m, n] that resamples a line of n values at (i + 0.5) / scale - 0.5; the ends repeat."""
    matrix = np.zeros((m, n))
    for i in range(m):
        for j, weight in taps(max((i + 0.5) / scale - 0.5, -0.5 if cubic else 0.0), cubic=cubic):
            matrix[i, min(max(j, 0), n - 1)] += weight
    return matrix


def resized(frame, *, cubic):
    """Shorter side to 32 without antialiasing; [3, h, w], 0 to 255."""
    pixels = frame.numpy().astype(np.float64).transpose(2, 0, 1)
    _, h, w = pixels.shape
    size = (SIDE, int(SIDE * w / h)) if h <= w else (int(SIDE * h / w), SIDE)
    rows, columns = (resampling(n, m, m / n, cubic=cubic) for n, m in zip((h, w), size, strict=True))
    return rows @ pixels @ columns.T


def prepared(frame, colours, *, cubic, square):
    pixels = resized(frame, cubic=cubic)
    if square:
        top, left = (round((n - SIDE) / 2) for n in pixels.shape[1:])
        pixels = pixels[:, top : top + SIDE, left : left + SIDE]
    mean, std = (np.array(values)[:, None, None] for values in colours)
    return (pixels / 255 - mean) / std


def layer_norm(x, w, name, eps):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + eps) * w[f"{name}.weight"] + w[f"{name}.bias"]


def attention(x, w, names):
    q, k, v = (x @ w[f"{name}.weight"].T + w[f"{name}.bias"] for name in names[:3])
    heads = []
    for h in range(2):
        part = slice(8 * h, 8 * h + 8)
        scores = q[:, part] @ k[:, part].T / math.sqrt(8)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        heads.append(shares / shares.sum(-1, keepdims=True) @ v[:, part])
    return np.concatenate(heads, -1) @ w[f"{names[3]}.weight"].T + w[f"{names[3]}.bias"]


def found_name(w, *ends):
    """Names of layers differ between versions of transformers: the one that ends so."""
    (name,) = {key.rpartition(".")[0] for key in w if key.rpartition(".")[0].endswith(ends)}
    return name


def transformer(x, w, prefix, *, eps, act):
    for i in range(2):
        own = {k.removeprefix(f"{prefix}.{i}."): v for k, v in w.items() if k.startswith(f"{prefix}.{i}.")}
        ends = [("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")]
        ends.append(("attention.output.dense", "out_proj", "o_proj"))
        x = x + attention(
            layer_norm(x, own, found_name(own, "layernorm_before", "layer_norm1"), eps),
            own,
            [found_name(own, *end) for end in ends],
        )
        y = layer_norm(x, own, found_name(own, "layernorm_after", "layer_norm2"), eps)
        up, down = found_name(own, "intermediate.dense", "fc1"), found_name(own, "fc2", "t.dense_down", "mlp.output")
        y = act(y @ own[f"{up}.weight"].T + own[f"{up}.bias"])
        x = x + y @ own[f"{down}.weight"].T + own[f"{down}.bias"]
    return x


def patches(pixels, kernel):
    p = kernel.shape[2]
    _, h, w = pixels.shape
    rows = [
        np.tensordot(kernel, pixels[:, i * p : i * p + p, j * p : j * p + p], 3)
        for i in range(h // p)
        for j in range(w // p)
    ]
    return np.stack(rows), (h // p, w // p)


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def dino_reference(frame, state):
    """DINO's class token in numpy: the wide picture, position embeddings stretched with its offset of 0.1."""
    w = {key: value.numpy().astype(np.float64) for key, value in state.items()}
    name = found_name(w, "projection")
    x, (h, v) = patches(prepared(frame, DINO_COLOURS, cubic=False, square=False), w[f"{name}.weight"])
    x = x + w[f"{name}.bias"]
    positions = w["embeddings.position_embeddings"][0]
    grid = positions[1:].reshape(4, 4, -1)
    rows, columns = (resampling(4, n, (n + 0.1) / 4, cubic=True) for n in (h, v))
    stretched = np.einsum("ai,bj,ijd->abd", rows, columns, grid).reshape(h * v, -1)
    if frame.shape[0] == frame.shape[1]:
        stretched = positions[1:]
    x = np.concatenate([w["embeddings.cls_token"][0] + positions[:1], x + stretched])
    prefix = next(key for key in w if ".0." in key).partition(".0.")[0]
    return layer_norm(transformer(x, w, prefix, eps=1e-12, act=gelu), w, "layernorm", 1e-12)[0]


def clip_reference(frame, state):
    """CLIP's image embedding in numpy: the middle square."""
    w = {k.removeprefix("vision_model."): v.numpy().astype(np.float64) for k, v in state.items() if "text_" not in k}
    x, _ = patches(prepared(frame, CLIP_COLOURS, cubic=True, square=True), w["embeddings.patch_embedding.weight"])
    x = np.concatenate([w["embeddings.class_embedding"][None], x]) + w["embeddings.position_embedding.weight"]
    x = layer_norm(x, w, found_name({k: v for k, v in w.items() if "." in k}, "pre_layrnorm"), 1e-5)
    x = transformer(x, w, "encoder.layers", eps=1e-5, act=lambda y: y / (1 + np.exp(-1.702 * y)))
    return layer_norm(x[0], w, "post_layernorm", 1e-5) @ w["visual_projection.weight"].T


def consistency_reference(features):
    units = [f / np.linalg.norm(f) for f in features]
    scores = [(max(0, units[i - 1] @ units[i]) + max(0, units[0] @ units[i])) / 2 for i in range(1, len(units))]
    return sum(scores) / len(scores)


@pytest.mark.parametrize("size", [(45, 70), (70, 45), (32, 32), (21, 30)])
def test_subject_consistency_is_vbenchs(weights, tools, size):
    folder, state = weights["dino"]
    frames = video(tools, height=size[0], width=size[1])
    metric = vbench.SubjectConsistency(encoder=vbench.DINO(folder, side=SIDE))
    features = [dino_reference(frame, state) for frame in frames]
    assert np.allclose(metric.encoder.encode(list(frames)).numpy(), features, atol=1e-4)
    assert metric.score(frames) == pytest.approx(consistency_reference(features), abs=1e-4)
    report = measure(frames, metrics=[metric], num_chunks=2, protocol="released")
    expected = [consistency_reference(features[4 * i : 4 * i + 4]) for i in range(2)]
    assert report.scores["subject_consistency"] == pytest.approx(expected, abs=1e-4)
    assert vbench.plain_scores(frames, metrics=[metric]) == {"subject_consistency": metric.score(frames)}


@pytest.mark.parametrize("size", [(45, 70), (71, 45), (32, 32), (21, 30)])
def test_background_consistency_and_aesthetic_quality_are_vbenchs(weights, tools, size, tmp_path):
    folder, state = weights["clip"]
    frames = video(tools, height=size[0], width=size[1])
    encoder = vbench.CLIP(folder)
    features = [clip_reference(frame, state) for frame in frames]
    assert np.allclose(encoder.encode(list(frames)).numpy(), features, atol=1e-4)
    score = vbench.BackgroundConsistency(encoder=encoder).score(frames)
    assert score == pytest.approx(consistency_reference(features), abs=1e-4)
    layer = torch.nn.Linear(12, 1)
    torch.save(layer.state_dict(), tmp_path / "linear.pth")
    metric = vbench.AestheticQuality(predictor=LaionAesthetic(tmp_path / "linear.pth", encoder=encoder))
    weight, bias = (p.detach().numpy().astype(np.float64) for p in layer.parameters())
    judged = [(f / np.linalg.norm(f) @ weight[0] + bias[0]) / 10 for f in features]
    assert metric.score(frames) == pytest.approx(sum(judged) / len(judged), abs=1e-4)


def test_encoders_are_told_from_those_with_another_preparation(weights):
    from vde_metrics import PretrainedEncoder

    for kind, encoder in (("clip", vbench.CLIP), ("dino", vbench.DINO)):
        assert encoder(weights[kind][0]).name != PretrainedEncoder(weights[kind][0]).name
    assert vbench.DINO(weights["dino"][0], side=32).name != vbench.DINO(weights["dino"][0]).name


def test_opposite_features_count_as_0_and_one_frame_is_too_few():
    scorer = ConsistencyScorer("subject_consistency")
    scorer.add(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]]))
    assert scorer.close_chunk() == (0 + (0 + 1) / 2) / 2
    scorer.add(torch.tensor([[1.0, 0.0]]))
    with pytest.raises(ValueError, match="subject_consistency: a chunk has 1 frame, but needs at least 2"):
        scorer.close_chunk()


class Mean:
    """A quality scorer whose answer is the mean of what it is shown."""

    name = "mean"

    def __init__(self):
        self.shapes = []

    def quality(self, pixels):
        self.shapes.append(tuple(pixels.shape))
        return pixels.mean((1, 2, 3)) * 100


def test_imaging_quality_limits_the_longer_side(tools):
    model = Mean()
    frames = torch.full((3, 300, 700, 3), 51, dtype=torch.uint8)
    assert vbench.ImagingQuality(model=model).score(frames) == pytest.approx(0.2)
    assert model.shapes == [(1, 3, 219, 512)] * 3
    small = tools.texture(20, 30, seed=0)
    assert torch.equal(longer_side(small)[0], small.permute(2, 0, 1) / 255)
    line = torch.linspace(0, 255, 1024)[None, :, None].expand(4, -1, 3).byte()
    matrix = resampling(1024, 512, 0.5, cubic=False)
    assert np.allclose(longer_side(line)[0, 0, 0].numpy(), matrix @ (line[0, :, 0].numpy() / 255), atol=1e-6)


class Blend:
    """An interpolator that takes the mean, which is right for linear fades."""

    name = "blend"

    def __init__(self):
        self.shapes = set()

    def between(self, before, after):
        self.shapes.add(tuple(before.shape))
        return (before + after) / 2


@pytest.mark.parametrize("num_frames", [3, 4, 7, 8])
def test_motion_smoothness_guesses_every_second_frame(tools, num_frames):
    frames = video(tools, height=21, width=30, num_frames=num_frames)
    blend = Blend()
    metric = vbench.MotionSmoothness(interpolator=blend)
    ends, shown = frames[::2].numpy().astype(np.float32) / 255, frames[1::2].numpy().astype(int)
    guesses = ((ends[:-1] + ends[1:]) / 2 * 255).clip(0, 255).astype(np.uint8).astype(int)
    misses = [np.abs(guess - frame).mean() for guess, frame in zip(guesses, shown, strict=False)]
    assert metric.score(frames) == pytest.approx((255 - np.mean(misses)) / 255, abs=1e-4)
    assert blend.shapes == {(1, 3, 32, 32)}


def test_motion_smoothness_begins_anew_in_every_chunk(tools):
    frames = video(tools, num_frames=22, height=20, width=20)
    metric = vbench.MotionSmoothness(interpolator=Blend())
    report = measure(frames, metrics=[metric], num_chunks=3, protocol="released", batch_frames=3)
    assert report.scores[metric.name] == tuple(metric.score(frames[7 * i : 7 * i + 7]) for i in range(3))


def test_borders_are_shared_with_the_odd_pixel_behind():
    assert border(21, 30, 16) == (1, 1, 5, 6)
    assert border(32, 16, 8) == (0, 0, 0, 0)


class Given:
    """A flow of given length in a tenth of the picture; counts the pairs it is asked for."""

    name = "given"

    def __init__(self, lengths):
        self.lengths, self.pairs, self.shape = iter(lengths), 0, None

    def flow(self, frames):
        self.pairs += 1
        self.shape = tuple(frames.shape)
        flow = torch.zeros(1, *frames.shape[1:3], 2)
        flow[:, :, : frames.shape[2] // 10 + 1, 0] = next(self.lengths)
        return flow


@pytest.mark.parametrize(("fast", "expected"), [(8, 1.0), (7, 0.0)])  # of 32 frames thinned from 96, a quarter is 8
def test_dynamic_degree_counts_pairs_that_move(fast, expected):
    frames = torch.zeros(96, 60, 80, 3, dtype=torch.uint8)
    threshold = 6 * 60 / 256
    flow = Given([threshold * 0.9] * (31 - fast) + [threshold * 1.1] * fast)
    metric = vbench.DynamicDegree(flow=flow, fps=24.0)
    assert metric.interval == 3
    assert metric.score(frames) == expected
    assert (flow.pairs, flow.shape) == (31, (2, 64, 80, 3))


def test_dynamic_degree_has_the_rate_of_vbench():
    rates = (5.0, 8.0, 12.0, 16.0, 20.0, 25.0, 29.97, 60.0)
    found = [vbench.DynamicDegree(flow=Given([]), fps=fps).interval for fps in rates]
    assert found == [1, 1, 2, 2, 2, 3, 4, 8]
    with pytest.raises(ValueError, match=r"fps is 0\.0"):
        vbench.DynamicDegree(flow=Given([]), fps=0.0)


def test_missing_weights_and_packages_are_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"none: no such file; put musiq_spaq_ckpt-358bb6af\.pth"):
        vbench.PyiqaMUSIQ(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"none: no such file; put raft_large_C_T_V1-22a6c225\.pth"):
        vbench.TorchvisionRAFT(tmp_path / "none")
    (tmp_path / "some").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "pyiqa.archs.musiq_arch", None)
    monkeypatch.setitem(sys.modules, "torchvision.models.optical_flow", None)
    with pytest.raises(ImportError, match="pip install pyiqa"):
        vbench.PyiqaMUSIQ(tmp_path / "some").quality(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ImportError, match="pip install torchvision"):
        vbench.TorchvisionRAFT(tmp_path / "some").flow(torch.zeros(2, 16, 16, 3, dtype=torch.uint8))


def test_a_file_that_is_no_raft_is_named(tmp_path, monkeypatch):
    """The network is a layer here: torchvision need not be installed."""
    torchvision = SimpleNamespace(raft_large=lambda weights: torch.nn.Linear(2, 3))
    monkeypatch.setitem(sys.modules, "torchvision.models.optical_flow", torchvision)
    path, frames = tmp_path / "raft.pth", torch.zeros(2, 16, 16, 3, dtype=torch.uint8)
    path.write_text("no weights\n")
    with pytest.raises(ValueError, match=r"raft\.pth: damaged, or not plain weights; expected raft_large_C_T_V1"):
        vbench.TorchvisionRAFT(path).flow(frames)
    for state, wrong in (({"weight": torch.ones(3, 2)}, "bias"), (torch.nn.Linear(2, 4).state_dict(), "weight")):
        torch.save(state, path)
        with pytest.raises(ValueError, match=rf"raft\.pth: the weights do not fit the network, {wrong} for one"):
            vbench.TorchvisionRAFT(path).flow(frames)
