import io
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from s3pot.images import (
    ImageError,
    decode_image,
    decode_png,
    encode_jpeg,
    encode_png,
    list_images,
    read_image,
    read_labels,
    write_png,
)

RED, GREEN = (255, 0, 0), (0, 255, 0)


def file_bytes(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def decode(image: Image.Image, file_format: str = "PNG", **options: object) -> np.ndarray:
    array = decode_image(file_bytes(image, file_format, **options), "x")
    assert array.dtype == np.uint8
    assert array.flags.writeable
    assert array.flags.c_contiguous
    return array


@pytest.fixture
def picture(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)


def test_rgb_is_unchanged(picture: np.ndarray) -> None:
    np.testing.assert_array_equal(decode(Image.fromarray(picture)), picture)


def test_exif_orientation_is_applied() -> None:
    picture = np.zeros((2, 3, 3), np.uint8)
    picture[0, 0] = RED
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the top of the scene is at the right of the stored picture
    upright = decode(Image.fromarray(picture), exif=exif)
    assert upright.shape == (3, 2, 3)
    assert tuple(upright[0, 1]) == RED
    assert upright.sum() == 255


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled(file_format: str) -> None:
    grey = np.array([[0, 128, 257, 32896, 65535]], np.uint16)
    array = decode(Image.fromarray(grey), file_format)
    np.testing.assert_array_equal(array[0, :, 0], [0, 0, 1, 128, 255])
    np.testing.assert_array_equal(array[..., 0], array[..., 2])


def test_16_bit_grey_with_orientation() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(Image.fromarray(np.zeros((2, 3), np.uint16)), exif=exif).shape == (3, 2, 3)


def test_32_bit_grey() -> None:
    within = Image.fromarray(np.array([[0, 65535]], np.int32))
    np.testing.assert_array_equal(decode(within, "TIFF")[0, :, 0], [0, 255])
    beyond = Image.fromarray(np.array([[0, 65536]], np.int32))
    with pytest.raises(ImageError, match="x: cannot be decoded: expected 16-bit grey, got values from 0 to 65536"):
        decode(beyond, "TIFF")


def test_float_pixels_are_refused() -> None:
    with pytest.raises(ImageError, match="floating-point pixels"):
        decode(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF")


def test_palette_gives_its_colours() -> None:
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    palette.putpalette([*RED, *GREEN])
    np.testing.assert_array_equal(decode(palette)[0], [RED, GREEN])
    np.testing.assert_array_equal(decode(palette, transparency=bytes([0, 255]))[0], [RED, GREEN])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGBA"])
def test_grey_and_alpha(mode: str) -> None:
    white = Image.new("RGB", (3, 2), "white").convert(mode)
    if mode.endswith("A"):
        white.putalpha(0)  # dropped, not blended: the pixels under it are the photograph
    np.testing.assert_array_equal(decode(white), np.full((2, 3, 3), 255))


def test_cmyk_jpeg() -> None:
    array = decode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)
    np.testing.assert_allclose(array[4, 4], RED, atol=3)


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in (RED, GREEN)]
    array = decode(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert tuple(array[0, 0]) == RED


def test_read_image_names_the_file(tmp_path: Path, picture: np.ndarray) -> None:
    whole = encode_jpeg(np.repeat(picture, 20, axis=0))
    for name, content, message in [
        ("empty.jpg", b"", "is empty"),
        ("text.jpg", b"this is no picture", "is no image that Pillow knows"),
        ("short.jpg", whole[: len(whole) // 2], "cannot be decoded: .*[tT]runcated"),
        ("header.png", file_bytes(Image.fromarray(picture))[:20], "cannot be decoded|is no image"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=rf"{name}: ({message})"):
            read_image(tmp_path / name)
    with pytest.raises(ImageError, match=r"gone\.jpg: cannot be read: No such file"):
        read_image(str(tmp_path / "gone.jpg"))
    with pytest.raises(ImageError, match="cannot be read: Is a directory"):
        read_image(tmp_path)


def test_decompression_bomb(monkeypatch: pytest.MonkeyPatch, picture: np.ndarray) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # 35 pixels: more than twice the limit
    with pytest.raises(ImageError, match=r"x: cannot be decoded: Image size \(35 pixels\) exceeds limit"):
        decode(Image.fromarray(picture))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_broken_bytes_raise_nothing_but_image_error(rng: np.random.Generator, picture: np.ndarray) -> None:
    failed = 0
    for file_format in ("JPEG", "PNG", "WEBP", "BMP", "GIF"):
        whole = file_bytes(Image.fromarray(np.tile(picture, (6, 6, 1))), file_format)
        for _ in range(100):
            broken = bytearray(whole[: rng.integers(1, len(whole) + 1)])
            for position in rng.integers(0, len(broken), 3):
                broken[position] = rng.integers(0, 256)
            try:
                decode_image(bytes(broken), "x")
            except ImageError:
                failed += 1
    assert failed > 100


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (1, 1), (1, 1, 3)])
def test_png_round_trip(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    array = rng.integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(decode_png(encode_png(array)), array)


def test_decode_png_gives_label_ids_of_a_palette() -> None:
    labels = Image.fromarray(np.array([[0, 18, 3]], np.uint8), "L").convert("P")
    labels.putpalette([7] * 768)
    np.testing.assert_array_equal(decode_png(file_bytes(labels)), labels)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "labels: is empty"),
        (b"x", "labels: is no image"),
        (file_bytes(Image.new("RGBA", (2, 2))), "labels: expected a PNG of mode L, P or RGB, got PNG of mode RGBA"),
        (file_bytes(Image.new("L", (2, 2)), "JPEG"), "labels: expected a PNG of mode L, P or RGB, got JPEG of mode L"),
    ],
)
def test_decode_png_refuses_what_it_would_change(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        decode_png(data, "labels")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 2), np.float32),
        np.zeros((2, 2), bool),
        np.zeros((2, 2, 4), np.uint8),
        np.zeros(2, np.uint8),
        np.zeros((0, 2), np.uint8),
    ],
    ids=str,
)
def test_encode_refuses_other_arrays(array: np.ndarray) -> None:
    for encode in (encode_png, encode_jpeg):
        with pytest.raises(TypeError):
            encode(array)


def test_jpeg_quality(picture: np.ndarray) -> None:
    smooth = np.repeat(np.repeat(picture, 16, axis=0), 16, axis=1)
    errors = []
    for quality, chroma_subsampling in [(20, True), (95, True), (95, False)]:
        data = encode_jpeg(smooth, quality, chroma_subsampling=chroma_subsampling)
        assert Image.open(io.BytesIO(data)).format == "JPEG"
        errors.append(np.abs(decode_image(data, "x").astype(float) - smooth).mean())
    assert errors[0] > errors[1] > errors[2]
    assert decode_image(encode_jpeg(smooth[..., 0]), "x").shape == smooth.shape
    for quality in (0, 101):
        with pytest.raises(ValueError, match=rf"quality must be in 1\.\.100, got {quality}"):
            encode_jpeg(smooth, quality)


def test_write_png_replaces_whole_files(tmp_path: Path, picture: np.ndarray) -> None:
    path = tmp_path / "new" / "a.png"
    write_png(path, np.zeros((2, 2), np.uint8))
    write_png(str(path), picture)
    np.testing.assert_array_equal(read_image(path), picture)
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]
    other = tmp_path / "other"
    other.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(other.stat().st_mode), "readable by whom the umask says"


def test_write_png_leaves_the_old_file_when_it_fails(
    tmp_path: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    write_png(path, picture)

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_png(path, picture[::-1].copy())
    np.testing.assert_array_equal(read_image(path), picture)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_list_images(tmp_path: Path) -> None:
    for name in ["b.JPG", "a.png", "z/c.webp", "z.tiff", "notes.txt", "._b.jpg", ".cache/d.png", "e.png/inside.jpeg"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    names = [p.relative_to(tmp_path).as_posix() for p in list_images(tmp_path)]
    assert names == ["a.png", "b.JPG", "z.tiff"]
    names = [p.relative_to(tmp_path).as_posix() for p in list_images(str(tmp_path), recursive=True)]
    assert names == ["a.png", "b.JPG", "e.png/inside.jpeg", "z.tiff", "z/c.webp"]


def test_list_images_says_why_there_are_none(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="nowhere: no such folder"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(ImageError, match=r"no images \(looked for \.bmp, .*\.webp\)$"):
        list_images(tmp_path)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a.png").touch()
    with pytest.raises(ImageError, match="1 in its sub-folders"):
        list_images(tmp_path)


@pytest.mark.parametrize("mode", ["L", "P"])
def test_labels_are_the_ids_whatever_the_palette_shows(tmp_path: Path, mode: str) -> None:
    labels = np.array([[0, 18, 3], [255, 1, 0]], np.uint8)
    image = Image.fromarray(labels, "L")
    if mode == "P":
        image = image.convert("P")
        image.putpalette([7] * 768)
    image.save(tmp_path / "labels.png")
    read = read_labels(tmp_path / "labels.png")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, labels)


def test_labels_that_cannot_be_read_name_the_file(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "colour.png")
    (tmp_path / "text.png").write_bytes(b"no picture")
    for name, message in [
        ("colour.png", "a label map is a grey or palette PNG, got mode RGB"),
        ("text.png", "is no image"),
        ("gone.png", "cannot be read: No such file"),
    ]:
        with pytest.raises(ImageError, match=rf"{name}: {message}"):
            read_labels(tmp_path / name)
