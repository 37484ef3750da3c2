import torch
from hypothesis import given
from hypothesis import strategies as st

from kvbank.token_set import TokenSet


@given(st.integers(1, 70).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))))
def test_a_set_gives_back_its_ids(drawn):
    num_tokens, ids = drawn
    found = TokenSet.of(torch.tensor(list(ids), dtype=torch.int64), num_tokens)
    assert list(found.ids()) == sorted(ids)
    assert len(found) == len(ids)
    assert found == TokenSet.of(sorted(ids), num_tokens)


def test_a_token_takes_a_bit():
    assert len(TokenSet.of(range(4680), 4680).bits) == 585
