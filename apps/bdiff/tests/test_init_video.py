"""Videos that go on from a video."""

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from bdiff.cli.main import main
from bdiff.output import VideoWriter, to_uint8
from bdiff.run import (
    RunState,
    SampleConfig,
    build,
    generate_chunks,
    load_model,
    load_run,
    make_spec,
    make_video,
    plan_run,
)
from bdiff.run.given_video import GivenChunks, measure_video
from bdiff_core import Storyboard

PROMPTS = ["a fox at home", "a fox at sea", "a fox at home"]


def pixels(frames, size=64, seed=0):
    """A grey square that becomes brighter frame by frame, with some structure that stays."""
    noise = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) - 0.5
    ramp = torch.linspace(-0.8, 0.8, frames)[None, :, None, None]
    return (0.3 * noise + ramp).repeat_interleave(size // 8, 2).repeat_interleave(size // 8, 3)


def write(path, frames, *, fps=8, size=64):
    with VideoWriter(path, fps=fps, height=size, width=size) as video:
        video.add(to_uint8(pixels(frames, size)))
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """60 frames at 8 a second: 3 chunks of 57 frames, 3 frames too many."""
    return write(tmp_path_factory.mktemp("clip") / "clip.mp4", 60)


@pytest.fixture(scope="module")
def config(tiny_model, clip, tmp_path_factory):
    return SampleConfig(
        storyboard=Storyboard.from_prompts(PROMPTS),
        out=tmp_path_factory.mktemp("runs") / "whole",
        model=tiny_model,
        init_video=clip,
        settings={"steps": 1, "guidance": 1.0, "scale": 1},
    )


@pytest.fixture(scope="module")
def record(config):
    return make_video(build(config))


def decode(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_a_film_begins_with_the_video_and_goes_on(record, config, clip):
    assert record["video"]["frames"] == len(decode(config.out / "video.mp4")) == 57 + 60
    assert record["prompts"] == [PROMPTS[0]] * 3 + PROMPTS
    wanted = {"path": str(clip), "num_chunks": 3, "dropped_frames": 3}
    assert {name: record["init_video"][name] for name in wanted} == wanted
    chunks = json.loads((config.out / "trace.json").read_text())["chunks"]
    assert [chunk["given"] for chunk in chunks] == [True] * 3 + [False] * 3
    assert [shown["chunk"] for shown in chunks[3]["shown"]] == [0, 1, 2]
    assert not (config.out / "state" / "given").exists()


def test_the_given_latents_are_those_of_the_end_of_the_video_encoded_at_once(record, config, clip, tiny_model):
    vae = load_model(tiny_model, dtype=torch.float32, device="cpu").vae
    frames = torch.from_numpy(decode(clip)[3:]).permute(3, 0, 1, 2)[None] / 127.5 - 1
    with torch.no_grad():
        expected, _ = vae.encode(frames)
    state = RunState(config.out)
    found = torch.cat([state.chunk(index).latents for index in range(3)], dim=2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("done", [1, 4])
def test_a_stopped_run_goes_on_without_the_video(record, config, clip, tmp_path, done):
    def stop(state):
        if state.done == done:
            raise KeyboardInterrupt

    moved, run = shutil.copy(clip, tmp_path / "moved.mp4"), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        make_video(build(config.changed(out=run, init_video=moved)), on_chunk=stop)
    moved.unlink()
    with pytest.raises(SystemExit) as stopped:
        main(["resume", str(run)])
    assert stopped.value.code == 0
    assert (run / "video.mp4").read_bytes() == (config.out / "video.mp4").read_bytes()
    assert (run / "trace.json").read_bytes() == (config.out / "trace.json").read_bytes()
    assert json.loads((run / "run.json").read_text())["complete"]


def test_a_video_that_was_not_read_to_its_end_is_asked_for(config, clip, tmp_path, capsys):
    moved, run = shutil.copy(clip, tmp_path / "moved.mp4"), tmp_path / "run"
    spec = make_spec(config.changed(out=run, init_video=moved))
    RunState(run).begin(spec)
    moved.write_bytes(moved.read_bytes()[:-1])
    for problem in ("has changed", "is no longer there"):
        with pytest.raises(SystemExit) as stopped:
            main(["resume", str(run)])
        said = capsys.readouterr().err
        assert (stopped.value.code, said.count("\n")) == (2, 1)
        assert f"moved.mp4 {problem} since this run began" in said
        moved.unlink(missing_ok=True)


def test_one_chunk_of_pixels_is_held_at_a_time(config, clip, tiny_model):
    loaded, counts = load_model(tiny_model, dtype=torch.float32, device="cpu").vae, []

    class Watched:
        device = loaded.device

        def encode(self, frames, state):
            counts.append(frames.shape[2])
            return loaded.encode(frames, state)

    spec = make_spec(config)
    given = GivenChunks(spec.init_video, Watched(), spec.sampling)
    latents = [given[index] for index in range(3)]
    assert counts == [17, 20, 20]
    assert torch.equal(given[1], latents[1])  # out of order: from the beginning again
    assert counts == [17, 20, 20, 17, 20]
    assert list(given) == [0, 1, 2]
    assert given.get(3) is None


def test_a_video_of_our_own_comes_back_pixel_by_pixel():
    from PIL import Image

    from bdiff.run.given_picture import to_pixels

    small = to_uint8(pixels(1))[0].numpy()
    large = np.kron(small, np.ones((4, 4, 1), np.uint8))
    found = to_pixels(Image.fromarray(large), height=64, width=64)
    assert np.array_equal(to_uint8(found[:, None])[0].numpy(), small)


@pytest.mark.parametrize(("fps", "frames"), [(24, 60), (8, 20), (4, 10), (25, 62)])
def test_the_frame_rate_becomes_the_models(tmp_path, config, fps, frames):
    path = write(tmp_path / "clip.mp4", frames, fps=fps)
    measured = measure_video(path, make_spec(config).sampling)
    assert (measured.num_chunks, measured.dropped_frames) == (1, 3)


def turned(source, path):
    """An mp4 that is to be shown turned clockwise: the display matrix of its track header says so."""
    data, one, minus = source.read_bytes(), bytes((0, 1, 0, 0)), bytes((255, 255, 0, 0))
    plain = one + bytes(12) + one
    at = data.index(plain, data.index(b"tkhd"))
    path.write_bytes(data[:at] + bytes(4) + one + bytes(4) + minus + bytes(4) + data[at + len(plain) :])
    return path


class Watched:
    """An autoencoder that keeps what it is shown."""

    device = torch.device("cpu")

    def __init__(self):
        self.shown = []

    def encode(self, frames, state):
        self.shown.append(frames)
        return frames, state


def test_the_model_is_shown_what_a_player_shows(config, clip, tmp_path):
    sampling, vae = make_spec(config).sampling, Watched()
    for path in (clip, turned(clip, tmp_path / "turned.mp4")):
        GivenChunks(measure_video(path, sampling), vae, sampling)[0]
    upright, lying = vae.shown
    assert torch.equal(lying, upright.rot90(-1, (3, 4)))
    assert not torch.equal(lying, upright)


@pytest.mark.parametrize("damage", [range(20, 30), [40]])
def test_a_damaged_video_is_gone_on_from_with_a_warning(config, tmp_path, damage):
    path = tmp_path / "damaged.mp4"
    whole = write(tmp_path / "whole.mp4", 60)
    with av.open(str(whole)) as given, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(given.streams.video[0])
        for number, packet in enumerate(packet for packet in given.demux(video=0) if packet.dts is not None):
            copy = av.Packet(bytes(packet.size) if number in damage else bytes(packet))
            copy.pts, copy.dts, copy.time_base, copy.stream = packet.pts, packet.dts, packet.time_base, stream
            copy.duration, copy.is_keyframe = packet.duration, packet.is_keyframe
            out.mux(copy)
    said = rf"damaged\.mp4: the header promises 60 frames, but only {60 - len(damage)} can be decoded"
    with pytest.warns(RuntimeWarning, match=said):
        measured = measure_video(path, make_spec(config).sampling)
    assert (measured.num_chunks, measured.dropped_frames) == (3, 3)


NAMES = ["12:30:00.mp4", "http:__x", "pipe:1.mp4", "concat:a|b.mp4", "%03d.mp4", "~x.mp4", "[a].mp4", "d\xe9.mp4"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_video_is_read_whatever_it_is_called(clip, config, tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(clip, name)
    spec = make_spec(config.changed(init_video=Path(name), storyboard=Storyboard.from_prompts(PROMPTS[:1])))
    given = GivenChunks(spec.init_video, Watched(), spec.sampling)
    assert given[2].shape[2] == 20


def test_seconds_and_a_prompt_of_its_own_are_of_their_parts(config, tmp_path):
    timed = Storyboard.parse("a (00s - 05s)\nb (05s - 10s)")
    spec = make_spec(config.changed(storyboard=timed, init_prompt="a clip"))
    assert [chunk.prompt for chunk in spec.chunks] == ["a clip"] * 3 + ["a", "a", "b", "b"]
    assert spec.title == "a"
    spec = make_spec(config.changed(seconds=7.5))
    assert len(spec.chunks) == 3 + 3
    plan = plan_run(spec, memory_limit=0)
    assert (plan.chunks, plan.given) == (6, 3)


def test_a_given_chunk_is_not_taken_again_and_a_film_can_be_made_longer(record, config, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(config.out, run)
    with pytest.raises(SystemExit) as stopped:
        main(["reroll", str(run), "--from", "2"])
    assert stopped.value.code == 2
    assert "chunk 2 is of" in capsys.readouterr().err
    spec = RunState(run).spec()
    make_video(load_run(spec.extended(["a fox asleep"]), run), fresh=False)
    longer = config.changed(out=tmp_path / "long", storyboard=Storyboard.from_prompts([*PROMPTS, "a fox asleep"]))
    make_video(build(longer))
    assert (run / "video.mp4").read_bytes() == (longer.out / "video.mp4").read_bytes()


def test_it_works_without_anything_being_written(config):
    chunks = list(generate_chunks(build(config.changed(storyboard=Storyboard.from_prompts(PROMPTS[:1])))))
    assert [chunk.frames.shape[2] for chunk in chunks] == [17, 20, 20, 20]


@pytest.fixture
def others(tmp_path, clip):
    """Files that are no video to go on from."""
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "text.txt").write_text("no video")
    (tmp_path / "cut.mp4").write_bytes(clip.read_bytes()[:50])
    write(tmp_path / "short.mp4", 16)
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return tmp_path


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--init-video", "none.mp4"], "none.mp4: no such file"),
        (["--init-video", "."], ".: a folder, not a file; expected a video file"),
        (["--init-video", "text.mp4"], "text.mp4: cannot be decoded as video"),
        (["--init-video", "text.txt"], "text.txt: cannot be decoded as video"),
        (["--init-video", "cut.mp4"], "cut.mp4: cannot be decoded as video"),
        (["--init-video", "sound.wav"], "sound.wav: has no video stream"),
        (["--init-video", "short.mp4"], "short.mp4: has 16 frames at 8 a second; expected at least 17"),
        (["--init-video", "short.mp4", "--mode", "whole"], "expected --mode cached or overlap"),
        (["--init-video", "short.mp4", "--image", "a.png"], "--image or with --init-video; give one"),
        (["--init-prompt", "a clip"], "--init-prompt says what --init-video shows"),
    ],
)
def test_what_cannot_be_gone_on_from_is_refused_in_one_line(
    others, tiny_model, options, said, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(others)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as stopped:
        main(["sample", "--model", str(tiny_model), "--prompt", "a fox", *options])
    error = capsys.readouterr().err
    assert (stopped.value.code, error.count("\n")) == (2, 1)
    assert said in error
    assert sorted(tmp_path.rglob("*")) == before


def test_the_command_says_what_it_drops(clip, tiny_model, tmp_path, capsys):
    arguments = ["sample", "--model", str(tiny_model), "--prompt", "a fox", "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--init-video", str(clip), "--steps", "1", "--json"])
    said = capsys.readouterr()
    assert stopped.value.code == 0
    assert "clip.mp4 gives the first 3 chunks (7.1 s); 3 frames (0.4 s) at its beginning are dropped" in said.err
    assert json.loads(said.out)["video"]["chunks"] == 4
