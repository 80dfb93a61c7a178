import torch

from s3pot.baselines.click_masks import click_masks, tokens_of_masks
from tests.stand_ins import random_record, tiny_sam


def test_equals_stock_sam_asked_click_by_click() -> None:
    sam = tiny_sam()
    tokens = random_record("a", 1, 1).image_tokens.float()
    ids = torch.tensor([0, 9, 63, 20])
    found = click_masks(sam, tokens, ids)
    for mask, token in zip(found, ids.tolist(), strict=True):
        row, col = divmod(token, 8)
        point = torch.tensor([[[col * 8 + 3.5, row * 8 + 3.5]]])
        sparse, dense = sam.sam.prompt_encoder(points=(point, torch.ones(1, 1)), boxes=None, masks=None)
        with torch.no_grad():
            stock, _ = sam.sam.mask_decoder(
                image_embeddings=tokens[None],
                image_pe=sam.sam.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,
            )
        torch.testing.assert_close(mask, stock[0, 0], atol=1e-5, rtol=1e-4)


def test_no_click_no_mask() -> None:
    tokens = random_record("a", 1, 1).image_tokens.float()
    assert click_masks(tiny_sam(), tokens, torch.tensor([], dtype=torch.int64)).shape == (0, 32, 32)


def test_shares_of_cells_by_hand() -> None:
    logits = torch.full((1, 4, 4), -1.0)
    logits[0, :2, :3] = 1.0
    assert tokens_of_masks(logits, (2, 2)).tolist() == [[1.0, 0.5, 0.0, 0.0]]
