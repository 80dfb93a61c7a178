"""What is sent, and what it costs."""

import io

import numpy as np
import pytest
from PIL import Image

from s3pot.images import ImageError
from s3pot.screening.cost import Price, picture_to_send, picture_tokens, question_tokens, sent_size
from tests.chat_server import QUESTION


@pytest.mark.parametrize(
    ("size", "sent"),
    [((1000, 2000), (336, 672)), ((2000, 1000), (672, 336)), ((672, 10), (672, 10)), ((1, 10_000), (1, 672))],
)
def test_only_large_pictures_shrink(size: tuple[int, int], sent: tuple[int, int]) -> None:
    assert sent_size(*size, 672) == sent


def test_what_is_sent_is_upright_small_and_without_exif() -> None:
    # Red on the left; turned by the camera: EXIF orientation 6 puts the left side on top.
    picture = np.zeros((300, 400, 3), dtype=np.uint8)
    picture[:, :200, 0] = 250
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "some camera"
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", exif=exif, quality=95)
    sent = picture_to_send(buffer.getvalue(), "a.jpg", 100)
    assert b"some camera" in buffer.getvalue()
    assert b"some camera" not in sent
    with Image.open(io.BytesIO(sent)) as opened:
        assert opened.format == "JPEG"
        assert opened.size == (75, 100)
        assert not opened.getexif()
        pixels = np.asarray(opened)
    assert pixels[:40, :, 0].min() > 200
    assert pixels[60:, :, 0].max() < 50


def test_a_file_that_is_no_picture() -> None:
    with pytest.raises(ImageError, match=r"a\.jpg"):
        picture_to_send(b"not a picture", "a.jpg", 100)


def test_tokens_of_a_picture_are_those_of_qwen() -> None:
    # 1024 x 1024 is 37 x 37 tokens of 28 px (the published example of Qwen2-VL), 32 x 32 of 32 px.
    assert picture_tokens(1024, 1024, 28) == 37 * 37
    assert picture_tokens(1024, 1024, 32) == 1024
    assert picture_tokens(672, 336, 28) == 24 * 12
    assert picture_tokens(3, 3, 28) == 1


def test_tokens_of_a_question_grow_with_its_words() -> None:
    characters = len("Look closely.") + len(QUESTION.words)
    assert characters / 5 < question_tokens(QUESTION) < characters


def test_prices_are_per_million() -> None:
    assert Price(input=2.0, output=8.0).of(3e6, 5e5) == 10.0
    assert Price().of(1e9, 1e9) == 0.0
    with pytest.raises(ValueError, match="input and output"):
        Price(output=-1.0)
    with pytest.raises(ValueError, match="token_side"):
        Price(token_side=0)
