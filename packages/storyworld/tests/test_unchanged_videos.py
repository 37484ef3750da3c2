"""Videos that models were trained on stay the same: hashes of their pixels, captions and truth.

Pixels are hashed as bytes: processors round the last bit of a sine differently.
"""

import hashlib

import pytest
import torch

import storyworld

TRUTH = (
    "place", "direction", "arrives", "chunk_of_frame", "position", "subject", "visible", "subject_colours", "sky",
    "ground", "landmark", "backgrounds", "regions",
)  # fmt: skip


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


@pytest.mark.parametrize(
    ("richness", "seed", "num_chunks", "pixels", "captions", "truth"),
    [
        (0, 0, 3, "5d02c0316ce1e1de", "baf9d633d77a2f09", "8b5474f792526de6"),
        (0, 7, 4, "2934a5fa3684f4f7", "e2bdf1c95f3b9c78", "7bd315d34b1e52f6"),
        (0, 1_000_003, 6, "9e348202c4455796", "751dad7b1951015a", "6984170a939e217b"),
        (0, 4, 5, "c13e7a864d6a2644", "8ebcc1b5ed7352d1", "248a76b24c41870c"),
        (1, 0, 3, "8f38ef83f3093d5b", "baf9d633d77a2f09", "05c6d6f4bddbaa47"),
        (1, 7, 4, "5a95cc0371cd1d92", "e2bdf1c95f3b9c78", "766f7417203d4296"),
        (1, 1_000_003, 6, "81a1ddd48fd841c8", "751dad7b1951015a", "799355f17cfbef54"),
        (1, 4, 5, "ecff4e565a1e307d", "8ebcc1b5ed7352d1", "bb55cdd50889e0a5"),
    ],
)
def test_a_video_is_the_same_as_before(richness, seed, num_chunks, pixels, captions, truth):
    story = storyworld.render(seed, num_chunks, richness=richness)
    levels = story.frames.add(1).mul(127.5).round().to(torch.uint8)
    assert digest(levels.numpy().tobytes()) == pixels
    assert digest("\n".join(story.captions).encode()) == captions
    assert digest(*(getattr(story.truth, name).numpy().tobytes() for name in TRUTH)) == truth
