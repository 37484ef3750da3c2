"""What the keys of a LoRA mean: the module of the transformer, and what is changed in it.

Tools put different words in front of the modules, join them by dots or by bars, and name the two factors differently:
peft and diffusers (`lora_A`, `lora_B`, with or without the name of the adapter), Wan's tools, ComfyUI and kohya's
(`lora_down`, `lora_up`, `alpha`; `diff`, `diff_b`, `diff_m`: differences of a weight, a bias, a modulation table),
LyCORIS (`w_norm`, `b_norm`: differences of a norm).
"""

import re
from collections.abc import Iterable
from typing import Literal

from bdiff_core.checkpoint.names import without_wrappers

Role = Literal["down", "up", "up_bias", "alpha", "diff", "diff_b"]
"""What a tensor does to its module."""

LORA_ENTRY = "generator_lora"
"""Under which LongLive and MemFlow keep a LoRA in a `.pt`, if they do not keep it bare."""

_FACTOR = re.compile(
    r"(?P<module>.+?)(?:\.lora_(?P<kind>A|B|down|up)(?:\.(?!(?:weight|bias)$)[^.]+)?"
    r"|[._]lora(?:_linear_layer)?\.(?P<short>down|up))(?:\.(?P<end>weight|bias))?"
)
_OTHER = re.compile(r"(?P<module>.+)\.(?P<word>alpha|diff|diff_b|diff_m|w_norm|b_norm)")
_WORDS: dict[str, Role] = {
    "A": "down", "down": "down", "B": "up", "up": "up", "alpha": "alpha", "diff": "diff", "w_norm": "diff",
    "diff_b": "diff_b", "b_norm": "diff_b", "diff_m": "diff",
}  # fmt: skip
_TABLE = "modulation"  # `diff_m` is a difference of it
# Words in front of the modules, in any order and number, joined by dots or bars.
_OWNERS = re.compile(
    r"^(?:(?:lora|lycoris|base_model|model|module|diffusion_model|transformer|generator|generator_ema|pipe|dit|unet|net)"
    r"[._]+)+"
)
_TEXT_ENCODER = re.compile(
    r"^(?:base_model\.model\.)?(?:lora_(?:prior_)?te\d*[._]|te\d*_|text_encoders?(?:_\d)?\.|text_model\.|"
    r"cond_stage_model\.|conditioner\.|lora_text_encoder)"
)
# Changes that are not added, or that consist of other factors.
_OTHER_KINDS = {
    "DoRA": re.compile(r"\.(?:dora_scale|lora_magnitude_vector(?:\..+)?)$"),
    "LoHa": re.compile(r"\.hada_(?:w|t)\d"),
    "LoKr": re.compile(r"\.lokr_(?:w|t)\d"),
    "OFT": re.compile(r"\.(?:oft_|boft_)"),
    "GLoRA": re.compile(r"\.[ab][12]\.weight$"),
    "LoCon with a middle factor": re.compile(r"\.lora_mid\.weight$"),
    "VeRA": re.compile(r"(?:\.vera_lambda_|^(?:base_model\.)?vera_[AB])"),
    "set of whole weights": re.compile(r"\.(?:set_weight|reshape_weight)$"),
    "LoRA of a second transformer": re.compile(r"^transformer_2\."),
}


def other_kind(keys: Iterable[str]) -> str | None:
    """What a file is instead of a plain LoRA of the transformer, with a key that shows it; None: it may be one."""
    for key in keys:
        if _TEXT_ENCODER.search(key):
            return f"changes a text encoder too ({key}), which stays as it is here; leave those keys out"
        kind = next((kind for kind, pattern in _OTHER_KINDS.items() if pattern.search(key)), None)
        if kind is not None:
            return f"is a {kind} ({key}), which is not read here; take a plain LoRA, or merge it where it was made"
    return None


def is_of_lora(key: str) -> bool:
    """Whether a key ends like the keys of LoRAs, whatever its module."""
    found = _OTHER.fullmatch(key)
    return _FACTOR.fullmatch(key) is not None or (found is not None and found["word"] != "alpha")


class Modules:
    """The modules of a transformer, to be found by keys with any words in front and any separator.

    Args:
        names: The parameters in every style.
    """

    def __init__(self, names: Iterable[str]) -> None:
        modules = {re.sub(r"\.(?:weight|bias)$", "", name) for name in names}
        self._flat = {module.replace(".", "_"): module for module in modules}

    def find(self, key: str) -> tuple[str, Role] | None:
        """The name of the module that a key belongs to, in the key's style, and what the key changes; None: no module.

        Args:
            key: The key in the file.
        """
        key = without_wrappers(key)
        if (match := _FACTOR.fullmatch(key)) is not None:
            role = _WORDS[match["kind"] or match["short"]]
            if match["end"] == "bias":
                if role == "down":
                    return None
                role = "up_bias"
            return self._found(match["module"], role)
        if (match := _OTHER.fullmatch(key)) is None:
            return None
        module = f"{match['module']}.{_TABLE}" if match["word"] == "diff_m" else match["module"]
        return self._found(module, _WORDS[match["word"]])

    def _found(self, module: str, role: Role) -> tuple[str, Role] | None:
        known = self._flat.get(_OWNERS.sub("", module).replace(".", "_"))
        return None if known is None else (known, role)
