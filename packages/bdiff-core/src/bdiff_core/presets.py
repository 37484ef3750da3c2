"""Named architectures."""

from collections.abc import Callable

from bdiff_core.config import ModelConfig


def tiny() -> ModelConfig:
    """The model that ships with the project: the architecture of the large ones at 7 million parameters."""
    return ModelConfig(dim=256, num_layers=6, num_heads=4, ffn_dim=1024, text_dim=384, text_length=32)


def wan21_1_3b() -> ModelConfig:
    """Wan 2.1 T2V 1.3B."""
    return ModelConfig(dim=1536, num_layers=30, num_heads=12, ffn_dim=8960)


def wan21_14b() -> ModelConfig:
    """Wan 2.1 T2V 14B."""
    return ModelConfig(dim=5120, num_layers=40, num_heads=40, ffn_dim=13824)


def skyreels_v2_df_1_3b() -> ModelConfig:
    """SkyReels-V2 DF 1.3B, which learned diffusion forcing: every frame has a level of its own."""
    return ModelConfig(dim=1536, num_layers=30, num_heads=12, ffn_dim=8960, fps_embedding=True)


PRESETS: dict[str, Callable[[], ModelConfig]] = {
    "tiny": tiny,
    "wan21-1.3b": wan21_1_3b,
    "wan21-14b": wan21_14b,
    "skyreels-v2-df-1.3b": skyreels_v2_df_1_3b,
}
