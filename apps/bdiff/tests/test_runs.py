"""Runs that are stopped, gone on with, taken again and made longer."""

import json
import os
import resource
import shutil
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from PIL import Image

from bdiff.cli.main import main
from bdiff.files import RunStateError, sha256
from bdiff.run import RunState, SampleConfig, build, load_run, make_spec, make_video
from bdiff_core import Storyboard

PROMPTS = [f"a fox {where}" for where in ("at home", "at sea", "in a wood", "at sea", "at home", "in a wood")]


@pytest.fixture(scope="module")
def config(tiny_model, tmp_path_factory):
    return SampleConfig(
        storyboard=Storyboard.from_prompts(PROMPTS),
        out=tmp_path_factory.mktemp("runs") / "whole",
        model=tiny_model,
        settings={"steps": 1, "guidance": 1.0, "scale": 1},
    )


@pytest.fixture(scope="module")
def whole(config):
    """The video of an uninterrupted run."""
    make_video(build(config))
    return config.out


@pytest.fixture
def stopped(config, tmp_path):
    """Makes a run that is stopped after so many chunks."""

    def make(num_chunks, **changes):
        def stop(state):
            if state.done == num_chunks:
                raise KeyboardInterrupt

        out = tmp_path / f"stopped-{num_chunks}"
        with pytest.raises(KeyboardInterrupt):
            make_video(build(config.changed(out=out, **changes)), on_chunk=stop)
        return out

    return make


def go_on(run):
    return make_video(load_run(RunState(run).spec(), run), fresh=False)


def bytes_of(run):
    return [(run / name).read_bytes() for name in ("video.mp4", "trace.json", "sheet.png")]


def leftovers(run):
    return [path for path in run.rglob("*") if path.name.startswith(".") or path.suffix in (".tmp", ".pending")]


@pytest.mark.parametrize("policy", ["semantic", "rolling"])
def test_law_5_a_stopped_run_becomes_the_film_that_it_would_have_been(config, whole, stopped, tmp_path, policy):
    if policy != "semantic":
        whole = tmp_path / "whole"
        make_video(build(config.changed(out=whole, policy=policy)))
    run = stopped(5, policy=policy)
    record = go_on(run)
    assert bytes_of(run) == bytes_of(whole)
    assert record["complete"]
    assert record["video"]["chunks"] == len(PROMPTS)
    assert not leftovers(run)


@pytest.mark.parametrize("lost", ["memory", "decoder", "damaged memory", "last chunk"])
def test_what_a_crash_may_have_lost_is_made_anew(whole, stopped, lost):
    run = stopped(3)
    state = RunState(run)
    if lost == "memory":
        state.forget_memory()
    elif lost == "decoder":
        (state.folder / "decoder.safetensors").unlink()
    elif lost == "last chunk":  # the bank may then be ahead
        (state.folder / "chunks" / "000002.safetensors").unlink()
        (state.folder / "chunks" / "000001.safetensors").unlink()
    else:
        segment = next((state.memory / "segments").iterdir())
        segment.write_bytes(segment.read_bytes()[:-1] + b"\x07")
    go_on(run)
    assert bytes_of(run) == bytes_of(whole)


def test_a_damaged_chunk_is_named_and_not_used(stopped):
    run = stopped(2)
    file = run / "state" / "chunks" / "000001.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 4
    file.write_bytes(content)
    with pytest.raises(RunStateError, match=r"000001\.safetensors is damaged"):
        go_on(run)


def test_a_damaged_chunk_costs_a_finished_video_nothing(whole, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    (run / "sheet.png").unlink()
    cut(run / "state" / "chunks" / "000001.safetensors")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for arguments in (["resume", run], ["reroll", run, "--from", 3], ["extend", run, "--prompt", "a fox asleep"]):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        assert ended.value.code == 2
        assert f"{run}/state/chunks/000001.safetensors is damaged" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert list(tmp_path.iterdir()) == [run]


def test_a_finished_run_keeps_no_bank(whole):
    assert not (whole / "state" / "memory").exists()
    assert RunState(whole).num_chunks == len(PROMPTS)


def test_a_reroll_keeps_what_came_before(whole, tmp_path):
    before = bytes_of(whole)
    spec = RunState(whole).spec()
    other = tmp_path / "other"
    RunState(whole).branch(other, 3)
    make_video(load_run(spec.rerolled(3, prompt="a fox on the moon"), other), fresh=False)
    assert bytes_of(whole) == before
    old, new = ([state.chunk(i).latents for i in range(6)] for state in (RunState(whole), RunState(other)))
    assert [torch.equal(a, b) for a, b in zip(old, new, strict=True)] == [True] * 3 + [False] * 3
    assert [RunState(other).chunk(i).entry["prompt"] for i in (2, 3, 4)] == [
        PROMPTS[2],
        "a fox on the moon",
        PROMPTS[4],
    ]


def test_a_reroll_of_the_same_seed_and_prompt_is_the_same_film(whole, tmp_path):
    """Nothing of a chunk depends on having made those before it in the same process."""
    spec = RunState(whole).spec()
    other = tmp_path / "other"
    RunState(whole).branch(other, 4)
    make_video(load_run(spec.rerolled(4, seed=spec.seed), other), fresh=False)
    assert bytes_of(other) == bytes_of(whole)


def test_a_film_can_be_made_longer(config, whole, tmp_path):
    run, long = tmp_path / "run", tmp_path / "long"
    shutil.copytree(whole, run)
    spec = RunState(run).spec().extended(["a fox at sea", "a fox asleep"])
    make_video(load_run(spec, run), fresh=False)
    make_video(build(config.changed(out=long, storyboard=Storyboard.from_prompts([*PROMPTS, *script_tail(spec, 2)]))))
    assert (run / "video.mp4").read_bytes() == (long / "video.mp4").read_bytes()
    assert (run / "trace.json").read_bytes() == (long / "trace.json").read_bytes()


def script_tail(spec, count):
    return [chunk.prompt for chunk in spec.chunks[-count:]]


def test_a_new_take_changes_the_shot_and_the_noise_from_there_on(whole):
    spec = RunState(whole).spec()
    spec = replace(spec, chunks=tuple(replace(chunk, prompt=p) for chunk, p in zip(spec.chunks, "aabbba", strict=True)))
    again = spec.rerolled(3, prompt="c")
    assert ("".join(chunk.prompt for chunk in again.chunks), {chunk.seed for chunk in again.chunks}) == ("aabcca", {0})
    again = spec.rerolled(3)
    assert ("".join(chunk.prompt for chunk in again.chunks), [t.seed for t in again.chunks]) == (
        "aabbba",
        [0, 0, 0, 1, 1, 1],
    )
    with pytest.raises(ValueError, match="there is no chunk 6; this video has chunks 0 to 5"):
        spec.rerolled(6)


def test_commands(config, whole, tmp_path, capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main(list(map(str, arguments)))
        return stopped.value.code, capsys.readouterr()

    film = tmp_path / "film"
    shutil.copytree(whole, film)
    code, said = run("resume", film)
    assert (code, "is complete: 6 chunks" in said.err) == (0, True)
    code, said = run("reroll", film, "--from", 5, "--seed", 3, "--json")
    assert (code, json.loads(said.out)["seeds"]) == (0, [0, 0, 0, 0, 0, 3])
    assert (tmp_path / "film-from-5" / "video.mp4").exists()
    code, said = run("extend", film, "--prompt", "a fox asleep", "--json")
    assert (code, json.loads(said.out)["video"]["chunks"]) == (0, 7)
    code, said = run("trace", film)
    assert (code, said.out.count("a fox asleep")) == (0, 1)
    code, said = run("trace", film, "--json")
    assert len(json.loads(said.out)["chunks"]) == 7


@pytest.mark.parametrize("where", [".", ".."])
def test_a_film_is_named_after_the_folder_that_dots_stand_for(config, whole, tmp_path, monkeypatch, where):
    film, new = tmp_path / "film", ["--model", config.model, "--prompt", "a fox", "--steps", "1"]
    shutil.copytree(whole, film)
    monkeypatch.chdir(film if where == "." else film / "state")
    for arguments in (["reroll", where, "--from", "5"], ["sample", "--out", where, *new]):
        with pytest.raises(SystemExit) as stopped:
            main(list(map(str, arguments)))
        assert stopped.value.code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film", "film-2", "film-from-5"]
    assert not list(film.glob("*-*"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("resume", "{tmp}"), "holds no run to go on with"),
        (("trace", "{tmp}"), "trace.md does not exist"),
        (("reroll", "{film}", "--from", "9"), "there is no chunk 9; this video has chunks"),
        (("reroll", "{film}"), "Missing option '--from'"),
        (("extend", "{film}"), "give --storyboard or --prompt"),
        (("extend", "{film}", "--storyboard", "{tmp}/none.yaml"), "none.yaml"),
    ],
)
def test_bad_input_is_one_line(whole, tmp_path, capsys, arguments, said):
    with pytest.raises(SystemExit) as stopped:
        main([argument.format(tmp=tmp_path, film=whole) for argument in arguments])
    error = capsys.readouterr().err
    assert (stopped.value.code, error.count("\n")) == (2, 1)
    assert said in error
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["overlap", "whole"])
def test_chunks_that_are_made_together_are_neither_taken_again_nor_added_to(config, tmp_path, capsys, mode):
    run = tmp_path / "film"
    board = Storyboard.from_prompts(PROMPTS[:1] * 2)
    RunState(run).begin(make_spec(config.changed(out=run, storyboard=board, mode=mode)))
    for arguments in (["reroll", run, "--from", 1], ["extend", run, "--prompt", PROMPTS[0]]):
        (error,) = fails_in_one_line(*arguments, capsys=capsys)
        assert f"film was made in the {mode} mode, in which chunks are made together" in error
    assert [path.name for path in tmp_path.iterdir()] == ["film"]


def test_the_whole_mode_is_told_one_prompt(config, tmp_path, capsys):
    said = "the whole mode takes one prompt for all frames; give one, or --mode overlap or cached"
    with pytest.raises(ValueError, match=said):
        make_spec(config.changed(mode="whole"))
    film = ["--model", config.model, "--mode", "whole", "--prompt", "a fox", "--prompt", "a cat"]
    for arguments in (["plan", *film], ["sample", *film, "--out", tmp_path / "x"]):
        (error,) = fails_in_one_line(*arguments, capsys=capsys)
        assert said in error
    assert not any(tmp_path.iterdir())
    spec = make_spec(config.changed(mode="whole", storyboard=Storyboard.from_prompts(PROMPTS[:1] * 2)))
    assert len(spec.chunks) == 2


def fails_in_one_line(*arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(list(map(str, arguments)))
    error = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2
    return error


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe", "script.json is damaged, or of another version of bdiff; make the video anew"),
        (b"[1]", "script.json is damaged, or of another version of bdiff"),
        (b'{"format": 7}', "script.json was written by another version"),
        (b"[" * 100_000, "script.json is damaged"),
        (b'{"format": 1, "foo": 1}', "script.json is damaged"),
        (b'{"format": 1, "takes": []', "script.json is damaged, or of another version of bdiff"),
    ],
)
def test_a_script_that_is_none_is_named(tmp_path, capsys, content, said):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "script.json").write_bytes(content)
    for arguments in (["resume", tmp_path], ["extend", tmp_path, "--prompt", "a fox"]):
        (error,) = fails_in_one_line(*arguments, capsys=capsys)
        assert said in error


def test_a_film_has_chunks(whole):
    with pytest.raises(ValueError, match="a video has no chunks"):
        replace(RunState(whole).spec(), chunks=())


def test_a_run_that_is_at_work_is_left_alone(whole, tmp_path, capsys):
    run = tmp_path / "film"
    shutil.copytree(whole, run)
    (run / "run.json").unlink()  # or it would be called complete
    half_written = run / "state" / "chunks" / ".000006.safetensors.tmp"
    half_written.touch()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with RunState(run).held():
        for arguments in (["resume", run], ["extend", run, "--prompt", "a fox asleep"]):
            (error,) = fails_in_one_line(*arguments, capsys=capsys)
            assert f"another process is at work on {run}; wait for it, or stop it" in error
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_damaged_chunk_ends_a_command_in_one_line(stopped, capsys):
    run = stopped(2)
    file = run / "state" / "chunks" / "000001.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    (error,) = fails_in_one_line("resume", run, capsys=capsys)
    assert "000001.safetensors is damaged" in error
    assert "delete it and all later chunks to make them again" in error
    file.unlink()
    with pytest.raises(SystemExit) as ended:
        main(["resume", str(run)])
    assert ended.value.code == 0


def test_a_run_has_ended_only_when_all_is_told(config, whole, tmp_path, monkeypatch, capsys):
    """Stopped while drift is measured, it is not complete, and what is missing needs no memory."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    run = tmp_path / "film"
    with monkeypatch.context() as patched:
        patched.setattr("bdiff.run.record.write_drift", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_video(build(config.changed(out=run)))
    assert not (run / "run.json").exists()
    monkeypatch.setattr("bdiff.run.wiring.generate", None)
    with pytest.raises(SystemExit) as ended:
        main(["resume", str(run)])
    assert (ended.value.code, "is complete" in capsys.readouterr().err) == (0, False)
    assert bytes_of(run) == bytes_of(whole)
    assert (run / "drift.json").read_bytes() == (whole / "drift.json").read_bytes()


def test_a_run_whose_model_has_changed_is_refused(config, tiny_model, tmp_path, capsys):
    model, out = tmp_path / "model", tmp_path / "film"
    shutil.copytree(tiny_model, model)
    make_video(build(config.changed(model=model, out=out, storyboard=Storyboard.from_prompts(PROMPTS[:1]))))
    (model / "sampling.json").write_text('{"steps": 1}')
    with pytest.raises(SystemExit) as stopped:
        main(["extend", str(out), "--prompt", "a fox"])
    assert stopped.value.code == 2
    assert "sampling.json has changed since this run began" in capsys.readouterr().err


@pytest.fixture
def pictured(config, tmp_path):
    """A run of two chunks that began with a picture and was stopped before or after the first one."""
    picture = tmp_path / "picture.png"
    Image.new("RGB", (64, 64), "red").save(picture)

    def begin(*, made):
        changes = {"out": tmp_path / "film", "image": picture, "storyboard": Storyboard.from_prompts(PROMPTS[:2])}
        parts = build(config.changed(**changes))
        RunState(parts.out).begin(parts.spec)
        if made:
            with pytest.raises(KeyboardInterrupt):
                make_video(parts, on_chunk=interrupt)
        return parts.out, picture

    def interrupt(state):
        raise KeyboardInterrupt

    return begin


@pytest.mark.parametrize("problem", ["has changed", "is no longer there"])
def test_a_picture_that_must_still_be_read_is_asked_for(pictured, capsys, problem):
    run, picture = pictured(made=False)
    if problem == "has changed":
        Image.new("RGB", (64, 64), "blue").save(picture)
    else:
        picture.unlink()
    (error,) = fails_in_one_line("resume", run, capsys=capsys)
    assert f"picture.png {problem} since this run began; bring back that picture" in error


def test_a_run_goes_on_without_a_picture_that_is_its_first_chunk(pictured, capsys):
    """The record says which one it was."""
    run, picture = pictured(made=True)
    digest = sha256(picture)
    picture.unlink()
    (again,) = fails_in_one_line("reroll", run, "--from", 0, capsys=capsys)  # its first chunk is to be made
    assert "picture.png is no longer there" in again
    for arguments in (["resume", run], ["extend", run, "--prompt", "a fox asleep"], ["reroll", run, "--from", 1]):
        with pytest.raises(SystemExit) as ended:
            main(list(map(str, arguments)))
        assert ended.value.code == 0, capsys.readouterr().err
    for film in (run, run.with_name("film-from-1")):
        record = json.loads((film / "run.json").read_text())
        assert (record["complete"], record["image"]) == (True, {"path": str(picture), "sha256": digest})


def test_a_run_of_a_version_that_noted_no_digest_of_its_picture_goes_on(pictured):
    run, picture = pictured(made=False)
    file = run / "state" / "script.json"
    spec = json.loads(file.read_text())
    file.write_text(json.dumps(spec | {"image": spec["image"]["path"]}))
    with pytest.raises(SystemExit) as ended:
        main(["resume", str(run)])
    assert ended.value.code == 0
    assert json.loads((run / "run.json").read_text())["image"] == {"path": str(picture), "sha256": None}


MISSING = ["video.mp4", "sheet.png", "trace.json", "trace.svg", "trace.md", "drift.json", "drift.html"]


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def damage(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 4 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 4)
    file.write_bytes(data)


@pytest.mark.parametrize("harm", [*MISSING, cut, damage], ids=lambda harm: getattr(harm, "__name__", harm))
@pytest.mark.parametrize("mode", ["cached", "overlap"])
def test_a_finished_run_that_lost_something_is_written_again_from_its_chunks(config, tmp_path, capsys, harm, mode):
    run = tmp_path / "run"
    make_video(build(config.changed(out=run, mode=mode)))
    before, chunks = bytes_of(run), {p: p.stat().st_mtime_ns for p in (run / "state" / "chunks").iterdir()}
    if isinstance(harm, str):
        (run / harm).unlink()
    else:
        harm(run / "video.mp4")
    with pytest.raises(SystemExit) as stopped:
        main(["resume", str(run)])
    assert stopped.value.code == 0
    said = f"{harm} is gone" if isinstance(harm, str) else "video.mp4 is cut or damaged"
    assert f"{run}: {said}; all files are written again" in capsys.readouterr().err
    assert bytes_of(run) == before
    assert {p: p.stat().st_mtime_ns for p in (run / "state" / "chunks").iterdir()} == chunks
    assert all((run / name).exists() for name in MISSING)
    with pytest.raises(SystemExit):
        main(["resume", str(run)])
    assert "is complete: 6 chunks" in capsys.readouterr().err


@pytest.mark.parametrize("name", MISSING[1:])
def test_a_finished_run_whose_files_were_damaged_is_written_again(config, tmp_path, capsys, name):
    run = tmp_path / "run"
    make_video(build(config.changed(out=run)))
    before = bytes_of(run)
    cut(run / name)
    with pytest.raises(SystemExit):
        main(["resume", str(run)])
    assert f"{run}: {name} was changed; all files are written again" in capsys.readouterr().err
    assert bytes_of(run) == before


@pytest.mark.parametrize("content", ["", "x", "[]", "null", "{}", '{"drift": null, "video": {}}', "[" * 100_000])
def test_a_finished_run_whose_record_is_damaged_is_written_again(config, tmp_path, capsys, content):
    run = tmp_path / "run"
    record = make_video(build(config.changed(out=run)))
    (run / "run.json").write_text(content)
    with pytest.raises(SystemExit) as stopped:
        main(["resume", str(run)])
    assert stopped.value.code == 0
    assert f"{run}: run.json is gone or damaged; all files are written again" in capsys.readouterr().err
    assert json.loads((run / "run.json").read_text())["video"] == record["video"]


def test_a_video_that_was_changed_and_shows_all_frames_is_left_as_it_is(config, tmp_path, capsys):
    run = tmp_path / "run"
    make_video(build(config.changed(out=run)))
    with (run / "video.mp4").open("ab") as file:
        file.write((16).to_bytes(4, "big") + b"free" + bytes(8))  # as editors leave it
    changed = (run / "video.mp4").read_bytes()
    with pytest.raises(SystemExit):
        main(["resume", str(run)])
    assert "is complete" in capsys.readouterr().err
    assert (run / "video.mp4").read_bytes() == changed


def test_a_run_recorded_without_a_digest_is_known_by_its_number_of_frames(config, tmp_path, capsys):
    run = tmp_path / "run"
    make_video(build(config.changed(out=run)))
    record = json.loads((run / "run.json").read_text())
    del record["video"]["sha256"]
    (run / "run.json").write_text(json.dumps(record))
    for harm, said in ((None, "is complete"), (cut, "are written again"), (None, "is complete")):
        if harm is not None:
            harm(run / "video.mp4")
        with pytest.raises(SystemExit):
            main(["resume", str(run)])
        assert said in capsys.readouterr().err


@contextmanager
def largest_file(limit):
    """No file may grow larger: what a full disk is to whoever writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("limit", [10_000, 40_000, 90_000])
def test_a_full_disk_says_what_could_not_be_written_and_that_the_run_goes_on(config, tmp_path, capsys, limit):
    run, model = tmp_path / "run", str(config.model)
    words = ["sample", "--model", model, "--prompt", "a fox", "--seconds", "12", "--steps", "1", "--out", str(run)]
    with pytest.raises(SystemExit) as stopped, largest_file(limit):
        main(words)
    err = capsys.readouterr().err
    said = err.splitlines()[-1]
    assert stopped.value.code == 2
    assert said.startswith("bdiff: ")
    assert "cannot be read or written: file too large; the chunks made so far are kept: make room" in said
    assert f"bdiff resume {run} goes on" in said
    assert "delete" not in said
    with pytest.raises(SystemExit) as stopped:
        main(["resume", str(run)])
    assert stopped.value.code == 0
    assert json.loads((run / "run.json").read_text())["complete"]


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_files_of_a_run_are_for_whom_the_umask_lets(config, tmp_path, mask):
    run, before = tmp_path / "run", os.umask(mask)
    try:
        make_video(build(config.changed(out=run)))
    finally:
        os.umask(before)
    files = [path for path in run.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~mask}


@pytest.mark.parametrize("where", ["latents", "pixels"])
@pytest.mark.parametrize("policy", ["semantic", "rolling"])
def test_numbers_that_are_not_finite_end_a_run_at_their_chunk(config, tmp_path, where, policy):
    parts = build(config.changed(out=tmp_path / "run", policy=policy))
    broken = parts.model if where == "latents" else parts.vae
    with torch.no_grad():
        next(p for name, p in broken.named_parameters() if "decoder" in name or where == "latents").fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=f"the {where} of chunk 0 are not finite numbers: the weights of"):
        make_video(parts)
    assert not list((tmp_path / "run").iterdir())


def test_numbers_that_become_infinite_later_leave_the_chunks_before(config, tmp_path, monkeypatch):
    parts = build(config.changed(out=tmp_path / "run"))
    decode = parts.vae.decode

    def diverge(latents, state=None):
        frames, state = decode(latents, state)
        return (frames * float("inf") if diverge.calls == 2 else frames), state

    diverge.calls = -1
    monkeypatch.setattr(parts.vae, "decode", lambda *a: (setattr(diverge, "calls", diverge.calls + 1), diverge(*a))[1])
    with pytest.raises(FloatingPointError, match="the pixels of chunk 2 are not finite"):
        make_video(parts)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["complete"], record["video"]["chunks"]) == (False, 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--storyboard", "long.txt"], "this is 24.03 hours of video; expected at most 24"),
        (["--storyboard", "long.txt", "--long"], None),
        (["--storyboard", "far.txt", "--long"], "hours of video; expected at most 720"),
        (["--prompt", ""], "prompt is empty"),
        (["--policy", "rolling"], "No such option"),
    ],
)
def test_a_film_is_made_longer_up_to_a_day(whole, tmp_path, capsys, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "long.txt").write_text("a fox (0s - 86500s)\n")
    (tmp_path / "far.txt").write_text("a fox (0s - 99999999999s)\n")
    before = sha256(whole / "state" / "script.json")

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("bdiff.run.load_run", stop)  # what would make a day of video
    with pytest.raises(SystemExit) as stopped:
        main(["extend", str(whole), *words])
    err = capsys.readouterr().err
    assert stopped.value.code == (130 if said is None else 2)
    assert said is None or said in err
    assert sha256(whole / "state" / "script.json") == before
