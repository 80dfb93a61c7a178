"""`PromptableSam`: the four things the chain asks of a SAM, the same for every size.

    encode -> image tokens        embed_prompts -> prompt embeddings
    enhance -> enhanced tokens    decode -> mask logits

Shapes: images (H, W, 3) uint8; image tokens (B, C, h, w); prompt ids (B, N) on the full token grid, id = row * w + col.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from segment_anything.modeling import Sam
from torch import Tensor, nn

from s3pot.sam.batched_decoder import decode_first_mask, output_tokens, two_way_transformer
from s3pot.sam.preprocess import preprocess, token_centers_xy, valid_tokens

Precision = Literal["fp32", "bf16"]


class PromptableSam(nn.Module):
    """A SAM as the chain uses it: frozen, batched, prompts as token ids.

    Args:
        sam: a stock `Sam` of any size, or the `nano` one.
        enhance_point_only: leave the IoU and mask tokens out of the feature enhancement (an ablation) [design 5.6].
        precision: of the image encoder alone; enhancement, matching and decoding stay in fp32.
    """

    def __init__(self, sam: Sam, *, enhance_point_only: bool = False, precision: Precision = "fp32") -> None:
        super().__init__()
        self.sam = sam
        self.enhance_point_only = enhance_point_only
        self.precision = precision
        rows, cols = sam.prompt_encoder.image_embedding_size
        self.token_grid: tuple[int, int] = (int(rows), int(cols))
        self.image_size = int(sam.image_encoder.img_size)
        self.patch = self.image_size // self.token_grid[0]
        self.embed_dim = int(sam.prompt_encoder.embed_dim)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.sam.pixel_mean.device

    @torch.no_grad()
    def encode(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]
    ) -> tuple[Float[Tensor, "b c h w"], Bool[Tensor, "b n"]]:
        """Encode pictures of any sizes into image tokens, with stock preprocessing.

        Returns:
            Image tokens (B, C, h, w) float32, and (B, h*w) True where a token lies in the picture, not in padding.
        """
        pictures = preprocess(self.sam, images)
        with torch.autocast(pictures.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            tokens = self.sam.image_encoder(pictures).float()
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        return tokens, valid_tokens(sizes, self.image_size, self.patch, self.device)

    def embed_prompts(self, prompt_ids: Int[Tensor, "b n"], polarity: Int[Tensor, "b n"]) -> Float[Tensor, "b n c"]:
        """Embed prompts at token centres, without the not-a-point token (`decode` appends that one).

        Args:
            prompt_ids: (B, N) ids on the full grid.
            polarity: (B, N) 1 = the thing to segment, 0 = not it.
        """
        return self.embed_points(token_centers_xy(prompt_ids, self.token_grid[1], self.patch), polarity)

    def embed_points(self, points_xy: Float[Tensor, "b n 2"], polarity: Int[Tensor, "b n"]) -> Float[Tensor, "b n c"]:
        """Embed points (x, y) in pixels of the model frame, as stock SAM takes them (it adds 0.5 to each)."""
        encoder = self.sam.prompt_encoder
        positions = encoder.pe_layer.forward_with_coords(points_xy + 0.5, encoder.input_image_size)
        kinds = torch.cat([encoder.point_embeddings[0].weight, encoder.point_embeddings[1].weight], dim=0)
        return positions + kinds[polarity]

    def enhance(
        self, image_tokens: Float[Tensor, "b c h w"], initial_prompt: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        """Run feature enhancement: the two-way transformer with one point of label 1 [S3POT 3.2, design 5.6].

        Args:
            image_tokens: (B, C, h, w) of the image or of the reference.
            initial_prompt: (B,) id of the point p_i.

        Returns:
            Enhanced tokens (B, C, h, w).
        """
        batch, channels, rows, cols = image_tokens.shape
        point = self.embed_prompts(initial_prompt[:, None], torch.ones_like(initial_prompt)[:, None])
        queries = [point, self._not_a_point(batch)]
        if not self.enhance_point_only:
            queries.insert(0, output_tokens(self.sam.mask_decoder, batch))
        _, enhanced = two_way_transformer(
            self.sam.mask_decoder.transformer,
            self._with_dense_prompt(image_tokens).flatten(2).transpose(1, 2),
            self._dense_position(rows, cols).flatten(2).transpose(1, 2),
            torch.cat(queries, dim=1),
            None,
        )
        return enhanced.transpose(1, 2).reshape(batch, channels, rows, cols)

    def decode(
        self,
        image_tokens: Float[Tensor, "b c h w"],
        prompt_embeddings: Float[Tensor, "b n c"],
        prompt_valid: Bool[Tensor, "b n"],
    ) -> Float[Tensor, "b hm wm"]:
        """Decode mask token 0 for B images with one prompt set each; hm = 4h, wm = 4w.

        Args:
            image_tokens: (B, C, h, w), not enhanced [design 5.7].
            prompt_embeddings: (B, N, C) of `embed_prompts`, reweighted or not; N may be 0.
            prompt_valid: (B, N) False for padding.
        """
        return self.decode_with_iou(image_tokens, prompt_embeddings, prompt_valid)[0]

    def decode_with_iou(
        self,
        image_tokens: Float[Tensor, "b c h w"],
        prompt_embeddings: Float[Tensor, "b n c"],
        prompt_valid: Bool[Tensor, "b n"],
    ) -> tuple[Float[Tensor, "b hm wm"], Float[Tensor, " b"]]:
        """Decode as `decode` does and return SAM's own IoU prediction (B,) beside the mask logits."""
        batch, _, rows, cols = image_tokens.shape
        return decode_first_mask(
            self.sam.mask_decoder,
            self._with_dense_prompt(image_tokens),
            self._dense_position(rows, cols),
            torch.cat([prompt_embeddings, self._not_a_point(batch).to(prompt_embeddings.dtype)], dim=1),
            torch.cat([prompt_valid, prompt_valid.new_ones(batch, 1)], dim=1),
        )

    def _not_a_point(self, batch: int) -> Tensor:
        return self.sam.prompt_encoder.not_a_point_embed.weight.expand(batch, 1, -1)

    def _with_dense_prompt(self, image_tokens: Tensor) -> Tensor:
        return image_tokens + self.sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)

    def _dense_position(self, rows: int, cols: int) -> Tensor:
        # Taken from the tokens' own grid: the nano SAM starts its training on 128 px pictures.
        return self.sam.prompt_encoder.pe_layer((rows, cols)).unsqueeze(0)
