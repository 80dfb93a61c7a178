"""SAM behind one small interface: sizes `vit_b`, `vit_l`, `vit_h` and the embedded `nano` [design 5.6-5.8, 7]."""

from s3pot.sam.promptable import PromptableSam
from s3pot.sam.sizes import SAM_SIZES, SamName, build_sam

__all__ = ["SAM_SIZES", "PromptableSam", "SamName", "build_sam"]
