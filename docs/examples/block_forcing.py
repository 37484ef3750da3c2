"""forcing-losses: what Block Forcing asks of a model. Here the model learns a single chunk."""

import torch

from forcing_losses import block_forcing_objective, semantic_reference

torch.manual_seed(0)
history = torch.randn(6, 1, 4, 5, 8, 8).unbind()  # six past chunks [b c t h w]
similarity = torch.tensor([[0.1, 0.9, 0.2, 0.8, 0.1, 0.3]])
reference = semantic_reference(history, similarity, top_l=2, num_frames=5)
assert torch.allclose(reference, (history[1] + history[3]) / 2)  # the two most similar

clean, noise = torch.randn(2, 1, 4, 5, 8, 8)
for weight in (0.0, 0.5, 2.0):
    learned = torch.zeros_like(clean, requires_grad=True)  # the model: velocity = noise - learned
    optimizer = torch.optim.Adam([learned], lr=0.05)
    for _ in range(300):
        loss = block_forcing_objective(noise - learned, clean, noise, reference, gamma=1.0, weight=weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # The best answer is a mix of the chunk and of its reference: it is pulled towards the past.
    mix = (clean + weight * reference) / (1 + weight)
    assert torch.allclose(learned, mix, atol=1e-2)
    print(f"weight {weight}: distance to the chunk {float((learned - clean).detach().square().mean()):.3f}")
