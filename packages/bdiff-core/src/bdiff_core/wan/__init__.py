"""The parts around the transformer of a Wan 2.1 or SkyReels-V2 pipeline: autoencoder, text encoder, image conditions.

They are those of diffusers and transformers, which are imported when a part is loaded: `pip install 'bdiff-core[wan]'`.
"""

from bdiff_core.wan.image import ImageCondition, image_condition, load_image_encoder
from bdiff_core.wan.original import is_original, load_original_text_encoder, load_original_vae, stored_numbers
from bdiff_core.wan.text import UMT5TextEncoder, clean_prompt
from bdiff_core.wan.vae import Tiling, WanVAE

__all__ = [
    "ImageCondition",
    "Tiling",
    "UMT5TextEncoder",
    "WanVAE",
    "clean_prompt",
    "image_condition",
    "is_original",
    "load_image_encoder",
    "load_original_text_encoder",
    "load_original_vae",
    "stored_numbers",
]
