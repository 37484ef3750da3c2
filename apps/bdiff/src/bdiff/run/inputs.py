"""What a video begins with: a picture or a video from outside, as the model takes it."""

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from bdiff.defaults import Sampling
from bdiff.files import sha256
from bdiff.run.config import SampleConfig
from bdiff.run.given_picture import GivenPicture, read_picture
from bdiff.run.given_video import GivenChunks, InitVideo, measure_video
from bdiff.run.models import Autoencoder, ImageEncoder
from bdiff.run.spec import RunSpec
from bdiff_core import ModelConfig
from bdiff_core.wan import ImageCondition, image_condition


def wants_picture(model: ModelConfig) -> bool:
    """Whether a transformer is image-to-video: it takes more channels than it gives back."""
    return model.in_channels > model.out_channels


def check_picture(config: SampleConfig, sampling: Sampling, model: ModelConfig) -> None:
    """Check that a picture is given to a model that takes one, and to no other.

    Raises:
        ValueError: If not.
    """
    folder = config.model
    if not wants_picture(model):
        if config.image is not None and sampling.mode == "whole":
            raise ValueError(
                f"--image needs an image-to-video model in the whole mode; {folder} is text-to-video; expected an "
                "image-to-video model, or --mode cached or overlap"
            )
        return
    if model.image_length is not None:
        raise ValueError(f"{folder}: wants a first and a last picture; expected an image-to-video model of one")
    if sampling.mode != "whole":
        raise ValueError(f"{folder}: an image-to-video model; expected --mode whole, got {sampling.mode}")
    if config.image is None:
        raise ValueError(f"{folder}: an image-to-video model, and no picture to begin with; give --image FILE")


def noted_picture(config: SampleConfig, sampling: Sampling) -> GivenPicture | None:
    """The picture that a video begins with, and its digest, by which another of that name is noticed.

    Raises:
        ValueError: If it cannot be read.
    """
    if config.image is None:
        return None
    read_picture(config.image, height=sampling.height, width=sampling.width)
    return GivenPicture(path=str(config.image.resolve()), sha256=sha256(config.image))


def given_video(config: SampleConfig, sampling: Sampling) -> InitVideo | None:
    """The video that another goes on from, measured.

    Raises:
        ValueError: If it cannot be gone on from.
    """
    if config.init_video is None:
        if config.init_prompt is not None:
            raise ValueError("--init-prompt says what --init-video shows; give both, or a storyboard alone")
        return None
    if config.image is not None:
        raise ValueError("a video begins with --image or with --init-video; give one of them")
    if sampling.mode == "whole":
        raise ValueError(
            f"{config.model}: the whole mode makes all frames at once and goes on from no video; "
            "expected --mode cached or overlap"
        )
    return measure_video(config.init_video, sampling)


def given_chunks(spec: RunSpec, vae: Autoencoder, model: ModelConfig, *, num_made: int = 0) -> Mapping[int, Tensor]:
    """Latents of the chunks that show what was given instead of being made.

    Args:
        spec: What is to be made.
        vae: Encodes what was given.
        model: Of the transformer.
        num_made: Chunks that are there already; a picture that they alone need is not read.
    """
    sampling = spec.sampling
    if spec.init_video is not None:
        return GivenChunks(spec.init_video, vae, sampling)
    if spec.image is None or wants_picture(model) or not spec.needs_picture(num_made):
        return {}
    picture = read_picture(Path(spec.image.path), height=sampling.height, width=sampling.width).to(vae.device)
    standing = picture[None, :, None].expand(-1, -1, sampling.first_frames, -1, -1)
    return {0: vae.encode(standing)[0]}


def given_picture(
    spec: RunSpec, vae: Autoencoder, model: ModelConfig, load_encoder: Callable[[], ImageEncoder | None]
) -> ImageCondition | None:
    """The picture as an image-to-video model takes it; None for other models, which need no `load_encoder`.

    Raises:
        ValueError: If the picture cannot be read, or the model takes other channels than those of Wan's family.
    """
    if spec.image is None or not wants_picture(model):
        return None
    sampling = spec.sampling
    picture = read_picture(Path(spec.image.path), height=sampling.height, width=sampling.width).to(vae.device)
    encoder = load_encoder()
    condition = image_condition(
        picture[None],
        vae,
        num_frames=sampling.num_frames(len(spec.chunks)),
        encoder=None if encoder is None else encoder.model,
        processor=None if encoder is None else encoder.processor,
    )
    extra, found = model.in_channels - model.out_channels, condition.extra.shape[1]
    if extra != found:
        raise ValueError(
            f"{spec.model}: the transformer takes {extra} channels beside the latents; expected {found}, a mask and "
            "the picture's latents"
        )
    return condition
