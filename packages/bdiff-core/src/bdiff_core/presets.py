"""Named architectures."""

from collections.abc import Callable
from dataclasses import replace

from bdiff_core.config import ModelConfig


def tiny() -> ModelConfig:
    """The model that ships with the project: the architecture of the large ones at 7 million parameters."""
    return ModelConfig(dim=256, num_layers=6, num_heads=4, ffn_dim=1024, text_dim=384, text_length=32)


def wan21_1_3b() -> ModelConfig:
    """Wan 2.1 T2V 1.3B."""
    return ModelConfig(dim=1536, num_layers=30, num_heads=12, ffn_dim=8960, native_mode="whole")


def wan21_14b() -> ModelConfig:
    """Wan 2.1 T2V 14B."""
    return ModelConfig(dim=5120, num_layers=40, num_heads=40, ffn_dim=13824, native_mode="whole")


def wan21_i2v_14b() -> ModelConfig:
    """Wan 2.1 I2V 14B: 16 latent channels, 4 of a mask and 16 of the picture; CLIP tokens of the picture."""
    return replace(wan21_14b(), in_channels=36, image_dim=1280)


def skyreels_v2_df_1_3b() -> ModelConfig:
    """SkyReels-V2 DF 1.3B, which learned diffusion forcing: every frame has a level of its own."""
    return replace(wan21_1_3b(), fps_embedding=True, native_mode="overlap")


PRESETS: dict[str, Callable[[], ModelConfig]] = {
    "tiny": tiny,
    "wan21-1.3b": wan21_1_3b,
    "wan21-14b": wan21_14b,
    "wan21-i2v-14b": wan21_i2v_14b,
    "skyreels-v2-df-1.3b": skyreels_v2_df_1_3b,
}
