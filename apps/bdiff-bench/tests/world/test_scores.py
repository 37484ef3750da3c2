"""What is measured on one story: retrieval by captions, and clarity by chunk."""

import torch

import storyworld
from bdiff_bench.world.scores import clarity_curve, retrieval_share
from bdiff_core import EncodedText, SentenceTextEncoder
from bdiff_train.transformer import FIRST_STORY
from kvbank import SemanticSparse


def test_captions_recall_the_right_place():
    """The gate of the shipped model: 95% of the returns that no recent chunk helps with."""
    found = retrieval_share(SentenceTextEncoder(), SemanticSparse(), range(FIRST_STORY, FIRST_STORY + 24))
    assert found["returns"] > 100
    assert found["share"] >= 0.95


def test_a_blind_memory_recalls_by_chance():
    class Blind:
        def encode(self, prompts):
            drawn = torch.randn(len(prompts), 8, generator=torch.Generator().manual_seed(len(prompts[0])))
            return EncodedText(tokens=drawn[:, None], embedding=torch.nn.functional.normalize(drawn, dim=1))

    assert retrieval_share(Blind(), SemanticSparse(), range(FIRST_STORY, FIRST_STORY + 24))["share"] < 0.7


def test_clarity_of_the_truth_is_measured_per_chunk():
    story = storyworld.render(5, 3)
    curve = clarity_curve(story.frames, story)
    assert len(curve) == 3
    blurred = torch.nn.functional.avg_pool2d(story.frames.transpose(0, 1), 3, 1, 1).transpose(0, 1)
    assert all(soft < 0.5 * sharp for soft, sharp in zip(clarity_curve(blurred, story), curve, strict=True))
