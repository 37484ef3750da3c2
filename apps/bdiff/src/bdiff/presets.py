"""How published checkpoints are sampled by their authors. Their files say nothing of it.

Read from the configuration files of each project. A window counts latent frames without those of the chunk that reads
and without the sink, as `kvbank.Rolling` and `kvbank.Sink` do.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """The sampling of one published checkpoint."""

    source: str
    """Repository of the hub, and the files."""
    names: str
    """What the name of such a file, or of its folder, holds: a regular expression."""
    settings: Mapping[str, Any]
    """Fields of `Sampling`."""
    trained_frames: int
    """Latent frames that the model saw in training, at most; beyond them a video is an extrapolation."""
    note: str = ""
    """What else a user should know."""


_WAN_SIZE = {"fps": 16, "height": 480, "width": 832, "scale": 1}
_FEW_STEPS = _WAN_SIZE | {
    "mode": "cached",
    "latent_frames": 3,
    "solver": "renoise",
    "timesteps": (1000, 750, 500, 250),
    "shift": 5.0,
    "guidance": 1.0,
    "positions": "absolute",
    "memory": "full",
}
_FRAMEWISE = _FEW_STEPS | {"latent_frames": 1}
_ONE_OR_TWO = {"first_timesteps": (1000, 750, 500, 250)}
_LONGLIVE = _FEW_STEPS | {"memory": "sink:frames=3,window=6,least=3", "prompt_switch": "recompute"}
_MANY_STEPS = _WAN_SIZE | {"solver": "scheduler", "steps": 50}
_CAUSAL_AR = _MANY_STEPS | {
    "mode": "cached",
    "shift": 5.0,
    "guidance": 3.0,
    "positions": "absolute",
    "memory": "full",
}

PRESETS: Mapping[str, Preset] = {
    "self-forcing": Preset(
        source="gdhe17/Self-Forcing: checkpoints/self_forcing_{dmd,sid,10s}.pt",
        names=r"self[-_]?forcing|sfwan",
        settings=_FEW_STEPS,
        trained_frames=21,
        note="For longer videos add --policy rolling:frames=9,least=3 or --policy semantic with --positions slots.",
    ),
    "self-forcing-image": Preset(
        source="gdhe17/Self-Forcing: checkpoints/self_forcing_dmd.pt, with --image",
        names=r"(?!)",
        settings=_FEW_STEPS | {"first_latent_frames": 1},
        trained_frames=21,
        note="The picture is a first chunk of one latent frame.",
    ),
    "causal-forcing": Preset(
        source="zhuhz22/Causal-Forcing: chunkwise/{causal_forcing,causal_ode,causal_cd}.pt",
        names=r"chunkwise.(causal_forcing|causal_ode|causal_cd)",
        settings=_FEW_STEPS,
        trained_frames=21,
    ),
    "causal-forcing-framewise": Preset(
        source="zhuhz22/Causal-Forcing: framewise/{causal_forcing,causal_ode,causal_cd}.pt",
        names=r"framewise.(causal_forcing|causal_ode|causal_cd)",
        settings=_FRAMEWISE,
        trained_frames=21,
    ),
    "causal-forcing-2step": Preset(
        source="zhuhz22/Causal-Forcing: causal-forcing++/framewise-2step.pt",
        names=r"framewise[-_]2step",
        settings=_FRAMEWISE | _ONE_OR_TWO | {"timesteps": (1000, 500)},
        trained_frames=21,
        note="The first frame takes four steps.",
    ),
    "causal-forcing-1step": Preset(
        source="zhuhz22/Causal-Forcing: causal-forcing++/framewise-1step.pt",
        names=r"framewise[-_]1step",
        settings=_FRAMEWISE | _ONE_OR_TWO | {"timesteps": (1000,)},
        trained_frames=21,
        note="The first frame takes four steps.",
    ),
    "causal-forcing-ar": Preset(
        source="zhuhz22/Causal-Forcing: chunkwise/ar_diffusion.pt",
        names=r"chunkwise.ar_diffusion",
        settings=_CAUSAL_AR | {"latent_frames": 3},
        trained_frames=21,
        note="Not distilled: 50 steps of UniPC with guidance.",
    ),
    "causal-forcing-ar-framewise": Preset(
        source="zhuhz22/Causal-Forcing: framewise/ar_diffusion.pt",
        names=r"framewise.ar_diffusion",
        settings=_CAUSAL_AR | {"latent_frames": 1},
        trained_frames=21,
        note="Not distilled: 50 steps of UniPC with guidance.",
    ),
    "longlive": Preset(
        source="Efficient-Large-Model/LongLive-1.3B: models/longlive_base.pt with --lora models/lora.pt",
        names=r"longlive",
        settings=_LONGLIVE,
        trained_frames=240,
        note="Base and LoRA together are LongLive 1.0. Its window of 12 frames holds the sink and the chunk itself.",
    ),
    "longlive-infinity": Preset(
        source="Efficient-Large-Model/LongLive-1.3B: models/longlive_base.pt with --lora models/lora.pt",
        names=r"(?!)",
        settings=_LONGLIVE | {"positions": "slots"},
        trained_frames=240,
        note="Relative positions, for any length.",
    ),
    "memflow": Preset(
        source="KlingTeam/MemFlow: base.pt with --lora lora.pt",
        names=r"memflow",
        settings=_FEW_STEPS | {"memory": "semantic:top_l=1,recent=2,sink=1,coverage=1"},
        trained_frames=240,
        note="MemFlow's own choice of its three memory frames is by attention to the prompt; here by prompts.",
    ),
    "reward-forcing": Preset(
        source="JaydenLyh/Reward-Forcing: rewardforcing.pt",
        names=r"reward[-_]?forcing",
        settings=_FEW_STEPS | {"memory": "sink:frames=3,window=3,least=3", "positions": "slots"},
        trained_frames=21,
        note="Its own sink is a running mean of what leaves the window; here it is the first chunk.",
    ),
    "causvid": Preset(
        source="tianweiy/CausVid: autoregressive_checkpoint/model.pt",
        names=r"causvid",
        settings=_FEW_STEPS | {"timesteps": (1000, 757, 522), "warped": False, "shift": 8.0},
        trained_frames=21,
        note="Its timesteps mean the nearest levels of its scheduler, 0.7568 and 0.5217.",
    ),
    "skyreels-v2-df": Preset(
        source="Skywork/SkyReels-V2-DF-1.3B-540P-Diffusers (and 14B)",
        names=r"skyreels.*df",
        settings=_MANY_STEPS
        | {
            "mode": "overlap",
            "latent_frames": 5,
            "shift": 8.0,
            "guidance": 6.0,
            "fps": 24,
            "height": 544,
            "width": 960,
        },
        trained_frames=31,
    ),
    "wan2.1": Preset(
        source="Wan-AI/Wan2.1-T2V-{1.3B,14B} and -Diffusers",
        names=r"(?<!sf)wan2\.?1",
        settings=_MANY_STEPS | {"mode": "whole", "latent_frames": 21, "shift": 5.0, "guidance": 5.0},
        trained_frames=21,
        note="One chunk is the whole video of 81 frames. Pipelines of diffusers come with shift 3.",
    ),
}
"""Presets by name."""


def find_preset(name: str) -> Preset:
    """A preset by its name.

    Raises:
        ValueError: If there is none.
    """
    if name not in PRESETS:
        raise ValueError(f"preset is {name!r}; expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


CLASSES: Mapping[str, str] = {"CausalWanTransformer3DModel": "self-forcing"}
"""Presets by the class that the `config.json` of a transformer names: FastVideo's folders of Self-Forcing."""


def recognised(path: str) -> str | None:
    """The preset of a checkpoint by the end of its path; None if none or more than one fits."""
    end = "/".join(PurePath(path.lower()).parts[-3:])
    found = [name for name, preset in PRESETS.items() if re.search(preset.names, end)]
    return found[0] if len(found) == 1 else None


def described(preset: Preset) -> dict[str, str]:
    """A preset in words, by what is told: for lists and pages."""
    found = preset.settings
    steps = found.get("timesteps")
    first = found.get("first_timesteps")
    walked = f"{found.get('steps')} of the scheduler" if steps is None else " ".join(map(str, steps))
    cached = found["mode"] == "cached"
    frames = str(found["latent_frames"]) + (
        f", first {found['first_latent_frames']}" if "first_latent_frames" in found else ""
    )
    return {
        "source": preset.source,
        "mode": found["mode"],
        "chunk": f"{frames} latent frames",
        "steps": walked + (f", first chunk {' '.join(map(str, first))}" if first else ""),
        "shift": f"{found['shift']:g}" + ("" if found.get("warped", True) else ", steps as told"),
        "guidance": f"{found['guidance']:g}",
        "memory": found["memory"] if cached else "none",
        "positions": found["positions"] if cached else "absolute",
        "new prompt": found.get("prompt_switch", "keep")
        if cached
        else "one prompt"
        if found["mode"] == "whole"
        else "keep",
        "size": f"{found['width']}x{found['height']}, {found['fps']} fps",
        "trained": f"{preset.trained_frames} latent frames",
        "note": preset.note,
    }


def preset_lines() -> list[str]:
    """All presets for people, a paragraph each."""
    lines = []
    for name, preset in PRESETS.items():
        lines += [name, *(f"  {key:<11}{text}" for key, text in described(preset).items() if text), ""]
    return lines[:-1]
