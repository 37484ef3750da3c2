import hashlib
import json
from contextlib import suppress

import av
import numpy as np
import pytest
import torch
from PIL import Image

from bdiff.cli.main import main
from bdiff.run import SampleConfig, build, generate_chunks, make_video
from bdiff_core import Storyboard

WHERE = ("in the meadow", "at the beach", "in the forest", "in a port", "at the beach")
PROMPTS = [f"a fox {where}" for where in WHERE]
TRACE = {"trace.json", "trace.svg", "trace.md"}
FILES = {"video.mp4", "sheet.png", "drift.json", "drift.html", "run.json", "state"} | TRACE


@pytest.fixture(scope="module")
def config(tiny_model, tmp_path_factory):
    return SampleConfig(
        storyboard=Storyboard.from_prompts(PROMPTS),
        out=tmp_path_factory.mktemp("runs") / "first",
        model=tiny_model,
        settings={"steps": 2},
    )


@pytest.fixture(scope="module")
def parts(config):
    return build(config)


@pytest.fixture(scope="module")
def progress():
    return []


@pytest.fixture(scope="module")
def record(parts, progress):
    return make_video(parts, on_chunk=progress.append, command="bdiff sample")


def decode(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_a_run_leaves_its_files_and_nothing_else(record, config):
    assert {path.name for path in config.out.iterdir()} == FILES
    assert decode(config.out / "video.mp4").shape == (97, 256, 256, 3)
    with Image.open(config.out / "sheet.png") as sheet:
        assert sheet.width > 600


def test_the_record_says_how_to_repeat_the_run(record, config):
    assert json.loads((config.out / "run.json").read_text()) == json.loads(json.dumps(record))
    assert record["complete"]
    assert (record["seed"], record["sampling"]["steps"]) == (0, 2)
    digest = hashlib.sha256((config.out / "video.mp4").read_bytes()).hexdigest()
    shape = {"chunks": 5, "frames": 97, "seconds": 12.125, "height": 256, "width": 256}
    assert record["video"] == {**shape, "sha256": digest}
    assert record["prompts"] == PROMPTS
    assert set(record["weights"]) == {"vae.safetensors", "transformer/config.json", "transformer/model.safetensors"}
    assert set(record["drift"]["vde"]) == {"clarity", "motion"}


def test_the_trace_says_what_was_remembered(record, config):
    chunks = json.loads((config.out / "trace.json").read_text())["chunks"]
    assert [[(shown["chunk"], shown["kind"]) for shown in chunk["shown"]] for chunk in chunks[:4]] == [
        [],
        [(0, "recent")],
        [(0, "recent"), (1, "recent")],
        [(0, "recalled"), (1, "recent"), (2, "recent")],
    ]
    last = {shown["chunk"]: shown for shown in chunks[4]["shown"]}
    assert last[1]["similarity"] == pytest.approx(1.0, abs=1e-5)
    assert all(0 < shown["share_of_tokens"] <= 1 for shown in last.values())


def test_drift_is_measured_on_the_chunks_themselves(record, config):
    drift = json.loads((config.out / "drift.json").read_text())
    assert drift["chunk_frames"] == [0, 17, 37, 57, 77, 97]


def test_progress_counts_down(record, progress):
    assert [(state.done, state.total) for state in progress] == [(done, 5) for done in range(1, 6)]
    assert progress[-1].seconds_left == 0
    assert progress[0].memory_bytes < progress[-1].memory_bytes


def test_the_same_seed_gives_the_same_bytes(record, config, tmp_path):
    again, other = (config.changed(out=tmp_path / str(seed), seed=seed) for seed in (0, 1))
    make_video(build(again))
    make_video(build(other))
    first = (config.out / "video.mp4").read_bytes()
    assert (again.out / "video.mp4").read_bytes() == first
    assert (again.out / "trace.json").read_bytes() == (config.out / "trace.json").read_bytes()
    assert (other.out / "video.mp4").read_bytes() != first


def test_a_stopped_run_leaves_a_video_that_plays(config, tmp_path):
    def stop(state):
        if state.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_video(build(config.changed(out=tmp_path / "x")), on_chunk=stop)
    assert len(decode(tmp_path / "x" / "video.mp4")) == 37
    record = json.loads((tmp_path / "x" / "run.json").read_text())
    assert (record["complete"], record["video"]["chunks"]) == (False, 2)
    assert (tmp_path / "x" / "sheet.png").exists()


def test_a_picture_becomes_the_first_chunk(config, tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 80, 3), np.uint8)).save(path)
    parts = build(config.changed(image=path, out=tmp_path / "x", seconds=4.0))
    assert parts.prefix[0].shape == (1, 16, 5, 8, 8)
    chunks = list(generate_chunks(parts))
    torch.testing.assert_close(chunks[0].latents, parts.prefix[0])
    assert not torch.equal(chunks[1].latents, parts.prefix[0])
    record = make_video(build(config.changed(image=path, out=tmp_path / "x", seconds=4.0)))
    assert len(record["image"]["sha256"]) == 64


def test_a_video_of_one_chunk_has_no_drift(config, tmp_path):
    record = make_video(build(config.changed(out=tmp_path / "x", seconds=1.0)))
    assert record["drift"] is None
    assert {path.name for path in (tmp_path / "x").iterdir()} == FILES - {"drift.json", "drift.html"}


def test_a_film_whose_drift_cannot_be_measured_is_finished(config, tiny_model, tmp_path, caplog):
    """Chunks of one frame, the first one here, have no motion."""
    for name in ("transformer", "vae.safetensors"):
        (tmp_path / name).symlink_to(tiny_model / name)
    (tmp_path / "sampling.json").write_text('{"latent_frames": 1}')
    out, board = tmp_path / "x", Storyboard.from_prompts(PROMPTS[:2])
    record = make_video(build(config.changed(model=tmp_path, out=out, storyboard=board)))
    assert (record["complete"], record["video"]["frames"], record["drift"]) == (True, 5, None)
    assert {path.name for path in out.iterdir()} == FILES - {"drift.json", "drift.html"}
    assert f"the drift of {out / 'video.mp4'} is not measured" in caplog.text


@pytest.mark.parametrize("end", ["stopped", "one chunk"])
def test_the_drift_of_an_earlier_film_is_gone_when_another_one_begins(config, tmp_path, end):
    def stop(state):
        if end == "stopped":
            raise KeyboardInterrupt

    first = config.changed(out=tmp_path / "x", storyboard=Storyboard.from_prompts(PROMPTS[:2]), steps=1)
    make_video(build(first))
    assert {path.name for path in first.out.iterdir()} == FILES
    prompts = PROMPTS[:1] if end == "one chunk" else PROMPTS[:2]
    with suppress(KeyboardInterrupt):
        make_video(build(first.changed(storyboard=Storyboard.from_prompts(prompts))), on_chunk=stop)
    assert {path.name for path in first.out.iterdir()} == FILES - {"drift.json", "drift.html"}


@pytest.mark.parametrize("policy", ["rolling", "sink", "dynamic", "full"])
def test_every_policy_runs(config, tmp_path, policy):
    chunks = list(generate_chunks(build(config.changed(policy=policy, out=tmp_path / "x", steps=1))))
    assert [len(chunk.recall.chunks) for chunk in chunks] == [0, 1, 2, 3, 4]


def test_an_age_bonus_has_first_visits_recalled(config, tmp_path):
    """Chunk 6 has the prompt of all before it: of four that are as similar, the newest are recalled, or the oldest."""
    board = Storyboard.from_prompts(PROMPTS[:1] * 7)
    recalled = {}
    for bonus in (None, 0.1):
        made = build(config.changed(storyboard=board, seconds=None, age_bonus=bonus, out=tmp_path / "x", steps=1))
        assert made.sampling.age_bonus == (bonus or 0.0)
        last = list(generate_chunks(made))[-1].recall
        recalled[bonus] = [c for c, kind in zip(last.chunks, last.kinds, strict=True) if kind == "recalled"]
    assert recalled == {None: [2, 3], 0.1: [0, 1]}


def test_the_first_chunk_may_stay_in_view_of_all(config, tmp_path):
    """Beside the two recent chunks and the two most similar of the others: five, and chunk 0 is one of them."""
    board = Storyboard.from_prompts(PROMPTS[:1] * 8)
    made = build(config.changed(storyboard=board, seconds=None, num_sink=1, out=tmp_path / "x", steps=1))
    recalls = [chunk.recall for chunk in generate_chunks(made)]
    assert recalls[-1].chunks == (0, 3, 4, 5, 6)
    assert recalls[-1].kinds == ("sink", "recalled", "recalled", "recent", "recent")
    assert all(recall.chunks[0] == 0 for recall in recalls[1:])


def test_a_model_folder_may_say_how_it_wants_to_be_sampled(config, tiny_model, tmp_path):
    for name in ("transformer", "vae.safetensors"):
        (tmp_path / name).symlink_to(tiny_model / name)
    (tmp_path / "sampling.json").write_text('{"steps": 7, "guidance": 1.5, "seniority": 0.1, "num_sink": 1}')
    made = build(config.changed(model=tmp_path))
    found, policy = made.sampling, made.spec.make_policy()
    assert (found.steps, found.guidance, found.shift, found.age_bonus) == (2, 1.5, 3.0, 0.1)
    assert (policy.age_bonus, policy.num_sink) == (0.1, 1)
    plain = build(config.changed(model=tmp_path, age_bonus=0.0, num_sink=0)).spec.make_policy()
    assert (plain.age_bonus, plain.num_sink) == (0.0, 0)
    (tmp_path / "sampling.json").write_text('{"seniority": -1}')
    with pytest.raises(ValueError, match=r"age_bonus is -1; expected a number from 0"):
        build(config.changed(model=tmp_path))
    for content, said in {
        '{"stepz": 7}': r"sampling.json: no valid sampling settings: unknown setting 'stepz'; known are fps,",
        '{"steps": "7"}': r"sampling.json: no valid sampling settings: steps is '7'; expected a whole number",
        '{"mode": [1]}': r"sampling.json: no valid sampling settings: mode is \[1\]; expected one of cached",
        "[1]": r"sampling.json is damaged: expected an object, found list",
        "{": r"sampling.json is damaged",
        "[" * 100_000: r"sampling.json is damaged: it is nested too deeply",
    }.items():
        (tmp_path / "sampling.json").write_text(content)
        with pytest.raises(ValueError, match=said):
            build(config.changed(model=tmp_path))


def test_the_command_prints_the_record_and_never_overwrites(tiny_model, tmp_path, capsys):
    arguments = ["sample", "--model", str(tiny_model), "--out", str(tmp_path / "x"), "--json", "--steps", "1"]
    arguments += ["--prompt", "a fox", "--prompt", "a cat", "--guidance", "1"]
    outs = []
    for extra in ([], [], ["--overwrite"]):
        with pytest.raises(SystemExit) as stopped:
            main([*arguments, *extra])
        assert stopped.value.code == 0
        captured = capsys.readouterr()
        outs.append(json.loads(captured.out)["out"])
        assert "2/2 done, 0:00 left" in captured.err
    assert outs == [str(tmp_path / name) for name in ("x", "x-2", "x")]
