"""What travels between the ingress of `s3pot serve` and its models. Imports no model: the ingress stays small."""

from dataclasses import dataclass, field
from typing import Any, Literal

MaskForm = Literal["rle", "png", "none"]


class Refused(Exception):
    """A request cannot be answered; the client is told why.

    Args:
        status: of HTTP.
        sentence: what is wrong and what to do, for people.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(status, sentence)
        self.status, self.sentence = status, sentence


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the answer is to hold.

    Attributes:
        mask: `rle` is COCO's run-length code, `png` a PNG in base64.
        overlay: a picture of the photograph with the occlusion tinted.
        stages: pictures of every stage, and an id to decode with other prompts.
        picture: answer with a picture instead of JSON: the mask, or the overlay.
    """

    mask: MaskForm = "rle"
    overlay: bool = False
    stages: bool = False
    picture: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What goes back to the ingress.

    Attributes:
        body: for JSON, or a picture.
        statuses: of the faces.
        states: what `decode` needs, by the number of the face; nothing unless stages were asked for.
        milliseconds: how long each stage took.
        batch: photographs that were computed together.
    """

    body: dict[str, Any] | bytes
    statuses: list[str]
    states: dict[int, bytes] = field(default_factory=dict)
    milliseconds: dict[str, float] = field(default_factory=dict)
    batch: int = 1
