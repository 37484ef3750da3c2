"""`bdiff train`: training of the autoencoder and the transformer of a model.

Example:
    >>> config = VAETrainConfig(out=Path("runs/vae"), minutes=25)
    >>> train_vae(config).evaluation
    {'psnr_db': 34.1, 'least_psnr_db': 31.8}
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bdiff_train.autoencoder import VAETrainConfig, train_vae
    from bdiff_train.transformer import ModelTrainConfig, train_model

__version__ = version("bdiff-train")

__all__ = ["ModelTrainConfig", "VAETrainConfig", "train_model", "train_vae"]
_MODULES = {
    "ModelTrainConfig": "bdiff_train.transformer",
    "VAETrainConfig": "bdiff_train.autoencoder",
    "train_model": "bdiff_train.transformer",
    "train_vae": "bdiff_train.autoencoder",
}


def __getattr__(name: str) -> Any:
    """Import a trainer when it is asked for, so that `bdiff train --help` does not wait for torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
