"""Folders that the benches of bdiff 0.1 wrote are gone on with, and their figures are shown."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from bdiff_bench.harness import weights_digest
from bdiff_bench.lvbench import LVBenchConfig, bench_lvbench
from bdiff_bench.memory import MemoryBenchConfig, bench_memory
from bdiff_bench.page import write_bench_page
from bdiff_bench.peers import PeersConfig, bench_peers, check
from bdiff_bench.world import WorldBenchConfig, bench_world

OLD = Path(__file__).with_name("written_by_0.1")
"""Finished folders of small benches with random weights."""
STILL = (64 * 9, 64)
"""Width and height of what a video of nine chunks is shown by."""
OF_THE_MACHINE = ("config", "machine", "folder", "policy")


@pytest.fixture
def old(tmp_path, tiny_model):
    """Copies a folder; its recipe names the weights of this machine's tiny model."""

    def copied(name):
        folder = tmp_path / name
        shutil.copytree(OLD / name, folder)
        recipe = folder / "recipe.json"
        if recipe.exists():
            values = json.loads(recipe.read_text())
            transformer = weights_digest(tiny_model / "transformer")
            for part in (values, *values.get("arms", {}).values()):
                part.update({"transformer": transformer} if "transformer" in part else {})
            if "autoencoder" in values:
                values["autoencoder"] = weights_digest(tiny_model)
            recipe.write_text(json.dumps(values))
        return folder

    return copied


def read(name, file):
    return json.loads((OLD / name / file).read_text())


@pytest.mark.parametrize(
    ("name", "stories", "options"),
    [
        ("world", 3, {"num_chunks": 9, "settings": {"steps": 1, "guidance": 1.0, "scale": 1}}),
        (
            "world-settings",
            2,
            {
                "num_chunks": 6,
                "seed": 3,
                "settings": {"steps": 1, "guidance": 1.0, "age_bonus": 0.3, "num_sink": 1, "richness": 2},
            },
        ),
    ],
)
def test_a_world_bench_is_gone_on_with(old, tiny_model, name, stories, options, assert_alike, assert_lines_are_kept):
    folder = old(name)
    config = WorldBenchConfig(out=folder, model=tiny_model, num_stories=stories, workers=1, **options)
    summary = bench_world(config)
    assert_lines_are_kept(folder, OLD / name)
    assert_alike(summary, read(name, "summary.json"), but=OF_THE_MACHINE)
    assert summary["config"].keys() == read(name, "summary.json")["config"].keys()
    other = options | {"settings": options["settings"] | {"steps": 2}}
    with pytest.raises(ValueError, match=r"another recipe \(different: steps\)"):
        bench_world(WorldBenchConfig(out=folder, model=tiny_model, **other))


def test_a_memory_bench_is_gone_on_with(old, tiny_model, assert_alike, assert_lines_are_kept):
    folder = old("memory")
    for arm in ("semantic", "rolling"):
        still = folder / "stills" / arm / "free-2000000-0.png"
        still.parent.mkdir(parents=True)
        Image.new("RGB", STILL).save(still)
    settings = {"steps": 2, "guidance": 1.5}
    config = MemoryBenchConfig(
        out=folder, model=tiny_model, settings=settings, num_stories=1, num_chunks=9, modes=("free",), workers=1
    )
    summary = bench_memory(config)
    assert_lines_are_kept(folder, OLD / "memory")
    assert_alike(summary, read("memory", "summary.json"), but=OF_THE_MACHINE)


def test_an_lvbench_is_gone_on_with(old, tmp_path, assert_alike):
    folder, videos = old("lvbench"), tmp_path / "videos"
    lines = [json.loads(line) for line in (folder / "videos.jsonl").read_text().splitlines()]
    names = sorted({line["video"] for line in lines})
    captions = ["A swan (00s - 01s)", "It rests (01s - 02s)"]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("".join(json.dumps({"video": name, "chunks": captions}) + "\n" for name in names))
    for line in lines:
        assert Path(line["identity"]["videos"]).name == "videos"
        line["identity"]["videos"] = str(videos)
        file = videos / line["method"] / line["video"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()  # it could not be measured again
    (folder / "videos.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    written = (folder / "videos.jsonl").read_bytes()
    config = LVBenchConfig(
        manifest=manifest, videos=videos, out=folder, metrics=("clarity", "motion"), num_chunks=4, split="all"
    )
    assert_alike(bench_lvbench(config), read("lvbench", "summary.json"), but=OF_THE_MACHINE)
    assert (folder / "videos.jsonl").read_bytes() == written


def test_a_comparison_with_peers_is_gone_on_with(old, tmp_path, assert_alike, assert_lines_are_kept):
    folder = old("peers")
    contestants = {"shapes": ("toy",), "contestants": ("semantic", "dense")}
    config = PeersConfig(out=folder, **contestants, num_chunks=3, repeats=2, steps=2)
    (tmp_path / "new").mkdir()
    here = check(PeersConfig(out=tmp_path / "new", **contestants, num_chunks=3, repeats=2, steps=2))
    there = read("peers", "recipe.json")
    assert there.keys() == here.keys()
    values = there | {"cores": here["cores"], "machine": {n: here["machine"].get(n) for n in there["machine"]}}
    (folder / "recipe.json").write_text(json.dumps(values))
    figures = bench_peers(config)
    assert_lines_are_kept(folder, OLD / "peers")
    shapes = read("peers", "figures.json")["shapes"]["toy"]
    assert_alike(
        figures["shapes"]["toy"]["contestants"],
        {n: shapes["contestants"][n] for n in ("semantic", "dense")},
        but=OF_THE_MACHINE,
    )


def test_figures_are_shown(tmp_path):
    files = {"world": "summary", "memory": "summary", "speed": "figures", "peers": "figures"}
    page = tmp_path / "page.md"
    write_bench_page(page, title="Old", **{name: OLD / name / f"{file}.json" for name, file in files.items()})
    text = page.read_text()
    assert "age bonus 0.0, " in text
    rolling = read("speed", "figures.json")["policies"]["rolling"]
    assert f"| rolling | {rolling['seconds_a_chunk']['median']:.2f}" in text
    for part in ("palette", "## Beside diffusers", "## Time and memory"):
        assert part in text
