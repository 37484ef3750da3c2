"""A configuration is post-trained as it says."""

import pytest
import torch

from studies.ablation import CONFIGURATIONS, AblationConfig, PostTraining
from studies.ablation.training import TrainingRun, training_config


@pytest.mark.parametrize(
    "configuration", [one for one in CONFIGURATIONS.values() if one.loss is not None], ids=lambda one: one.label
)
def test_a_configuration_is_trained_as_it_is_sampled_and_as_long_as_the_others(configuration, tmp_path):
    config = AblationConfig(out=tmp_path, training=PostTraining(steps=30))
    made = training_config(config, TrainingRun(configuration=configuration, seed=2))
    assert (made.policy, made.coverage, made.seed) == (configuration.policy, configuration.coverage, 2)
    turns = 1 if made.self_forcing is None else made.self_forcing.critic_steps + 1
    assert made.max_steps == 30 * turns
    forcing = (made.block_forcing is not None, made.self_forcing is not None)
    expected = {
        "flow-matching": (False, False), "block-forcing": (True, False), "self-forcing": (False, True),
        "block-self-forcing": (True, True),
    }  # fmt: skip
    assert forcing == expected[configuration.loss]
    if made.block_forcing is not None:
        assert (made.block_forcing.weight, made.block_forcing.gamma) == (configuration.weight, configuration.gamma)
    if made.self_forcing is not None:
        assert made.self_forcing.weight == configuration.adversarial
    policy, similarity = (
        configuration.make_policy(),
        torch.rand(30, generator=torch.Generator().manual_seed(0)).tolist(),
    )
    assert len(policy.select(30, similarity)) == made.batch.context == 4
    assert policy.coverage == configuration.coverage
