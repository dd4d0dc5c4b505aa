"""Make an existing PyTorch loop sparse by changing three lines, marked 1 to 3.

A classifier of noisy spirals keeps 10 % of its weights from the first step to the last; every
20 steps it exchanges some of its links. Delete the three lines and the loop is dense again.

    python examples/train/sparse_supervised.py
"""

from __future__ import annotations

import torch
from torch import nn

from thrifty.sparse import Cosine, TopologyEvolution, sparsify  # 1


def spirals(samples: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw points [samples, 2] on three arms, with the number of their arm [samples]."""
    arm = torch.randint(3, (samples,), generator=generator)
    radius = torch.rand(samples, generator=generator)
    angle = 4 * radius + arm * 2 * torch.pi / 3
    points = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    return points + 0.03 * torch.randn(samples, 2, generator=generator), arm


def main(steps: int = 600) -> float:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(
        nn.Linear(2, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 3)
    )
    masks = sparsify(model, sparsity=0.9)  # 2
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    TopologyEvolution(masks, Cosine(0.9, update_every=20, update_until=450)).attach(optimizer)  # 3

    for step in range(1, steps + 1):
        points, arm = spirals(256, generator)
        loss = nn.functional.cross_entropy(model(points), arm)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step:4d}  loss {loss.item():.3f}")

    points, arm = spirals(2000, generator)
    accuracy = float((model(points).argmax(1) == arm).float().mean())
    weights = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    links = sum(int((weight != 0).sum()) for weight in weights)
    print(f"accuracy {accuracy:.3f} with {links} of {sum(w.numel() for w in weights)} weights")
    return accuracy


if __name__ == "__main__":
    main()
