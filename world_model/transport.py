"""What moves keeps its look: besides a change of its own, each cell to come may be a mixture of the present cells around it.

Shapes as in ``condition.py``, P = patches of a frame, D = width of the transformer, r = reach [cells],
k = (2 r + 1)^2 candidates.

A change alone has to paint anew whatever moves, and small things smear; a mixture of neighbours, with weights that the network
chooses for each cell (Finn, Goodfellow and Levine, "Unsupervised Learning for Physical Interaction through Video Prediction",
NeurIPS 2016), carries them along.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STAY = 4.0  # logit of the cell itself at the start, above that of the others


class Transport(nn.Module):
    """Weights of the neighbours from the tokens; a gate that begins at zero leaves the network as it was.

    Args:
        width: D.
        patch: cells that a token is wide.
        reach: r.
    """

    def __init__(self, width: int, patch: int, reach: int) -> None:
        super().__init__()
        self.patch, self.reach = patch, reach
        self.candidates = (2 * reach + 1) ** 2
        self.to_logits = nn.Linear(width, patch * patch * self.candidates)
        self.gate = nn.Parameter(torch.zeros(()))
        nn.init.zeros_(self.to_logits.weight)
        with torch.no_grad():
            bias = torch.zeros(patch * patch, self.candidates)
            bias[:, self.candidates // 2] = STAY
            self.to_logits.bias.copy_(bias.flatten())

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:
        """How each cell differs from the present one [B, C, n, h, w], by what is carried there.

        Args:
            tokens: of the frames to come [B, n, P, D].
            present: [B, C, h, w].
        """
        columns = present.shape[-1] // self.patch
        logits = self.to_logits(tokens).unflatten(3, (self.patch, self.patch, self.candidates))
        cells = logits.unflatten(2, (-1, columns)).permute(0, 6, 1, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)
        weights = cells.softmax(dim=1)
        padded = F.pad(present, (self.reach,) * 4, mode="replicate")
        around = F.unfold(padded, 2 * self.reach + 1).unflatten(1, (present.shape[1], self.candidates))
        around = around.unflatten(-1, present.shape[-2:])
        carried = torch.einsum("bckhw,bknhw->bcnhw", around, weights)
        change: Tensor = torch.tanh(self.gate) * (carried - present[:, :, None])
        return change
