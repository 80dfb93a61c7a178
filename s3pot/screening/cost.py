"""What asking costs: pictures as they are sent, and their tokens."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

from s3pot.images import decode_image, encode_jpeg
from s3pot.screening.question import Question

_QUALITY = 90
_CHARACTERS_PER_TOKEN = 4.0
_MESSAGE_TOKENS = 20
"""Of the chat template, roughly."""


@dataclass(frozen=True, kw_only=True)
class Price:
    """What tokens cost, in any currency.

    Attributes:
        input: per million tokens that are sent; 0 on a machine of one's own.
        output: per million tokens that come back.
        token_side: a square of so many pixels is one token; 28 for Qwen2-VL and Qwen2.5-VL, 32 for Qwen3-VL.
    """

    input: float = 0.0
    output: float = 0.0
    token_side: int = 28

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.input < 0.0 or self.output < 0.0:
            raise ValueError(f"input and output must be at least 0, got {self.input}, {self.output}")
        if self.token_side < 1:
            raise ValueError(f"token_side must be at least 1, got {self.token_side}")

    def of(self, sent: float, received: float) -> float:
        """Return the price of so many tokens."""
        return (sent * self.input + received * self.output) / 1e6


def picture_to_send(data: bytes, name: str, max_side: int) -> bytes:
    """Return the JPEG that is sent: upright, shrunk to `max_side`, without anything the file says besides (EXIF, GPS).

    Raises:
        ImageError: if it cannot be read.
    """
    return encode_jpeg(_shrunk(decode_image(data, name), max_side), _QUALITY)


def sent_size(height: int, width: int, max_side: int) -> tuple[int, int]:
    """Return (height, width) of a picture as it is sent."""
    scale = min(1.0, max_side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def picture_tokens(height: int, width: int, token_side: int) -> int:
    """Return the tokens of a picture of this size: sides are rounded to whole tokens, as Qwen-VL does."""
    return max(1, round(height / token_side)) * max(1, round(width / token_side))


def question_tokens(question: Question) -> int:
    """Return roughly how many tokens the words of a question are, for want of the model's own tokeniser."""
    return math.ceil(len(question.system + question.words) / _CHARACTERS_PER_TOKEN) + _MESSAGE_TOKENS


def _shrunk(image: UInt8[np.ndarray, "_ _ 3"], max_side: int) -> UInt8[np.ndarray, "_ _ 3"]:
    height, width = sent_size(image.shape[0], image.shape[1], max_side)
    if (height, width) == image.shape[:2]:
        return image
    # Averaging over areas: no aliasing, which a model could take for texture.
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
