"""A batch of images with a head for each: the prompts of image i are reweighted by head i alone.

The heads stay modules of their own, with parameters of their own; `torch.func.vmap` runs them as one, so that B images
cost a few large operations instead of B times as many small ones. To the decoder the batch looks like any other.
"""

import warnings
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.func import functional_call, vmap

from s3pot.head.reweighter import PromptReweighter


class HeadPerImage(nn.Module):
    """Stands where a reweighter stands; gradients reach the parameters of the heads it was made of.

    Args:
        heads: one per image of the batches it will see, all of one form.

    Raises:
        ValueError: without heads, or if their forms differ.
    """

    def __init__(self, heads: Sequence[PromptReweighter]) -> None:
        super().__init__()
        forms = {head.config for head in heads}
        if len(forms) != 1:
            raise ValueError(f"expected heads of one form, got {len(forms)} forms: {sorted(map(str, forms))}")
        self.heads = nn.ModuleList(heads)

    def forward(
        self, prompt_embeddings: Float[Tensor, "b n c"], prompt_valid: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b n c"]:
        """Reweight as `PromptReweighter` does, each image by its own head.

        Args:
            prompt_embeddings: one image per head.
            prompt_valid: False for padding.
        """
        first = self.heads[0]
        if len(self.heads) == 1:
            reweighted: Tensor = first(prompt_embeddings, prompt_valid)
            return reweighted
        stacked = {
            name: torch.stack([head.get_parameter(name) for head in self.heads]) for name, _ in first.named_parameters()
        }

        def reweight(parameters: dict[str, Tensor], embeddings: Tensor, valid: Tensor) -> Tensor:
            of_one: Tensor = functional_call(first, parameters, (embeddings[None], valid[None]))
            return of_one[0]

        with warnings.catch_warnings():
            # On the CPU, PyTorch maps its fused attention image by image and says so. Attention is 4 % of a step.
            warnings.filterwarnings("ignore", message=".*batching rule for aten::_scaled_dot_product")
            every: Tensor = vmap(reweight)(stacked, prompt_embeddings, prompt_valid)
        return every
