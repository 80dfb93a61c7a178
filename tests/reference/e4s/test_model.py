"""E4S as a whole: small networks with random weights, and agreement with what was measured on the released network."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from s3pot.reference.e4s.model import E4S, E4SConfig
from s3pot.reference.e4s.style_heads import pool_regions
from s3pot.reference.e4s.synthesis import Scene
from s3pot.reference.e4s.upfirdn import upsample
from tests.parity import TOLERANCE

LEVELS = range(9)  # 4 to 1024 px
UNITS = range(-1, 24)  # -1 is the input layer of the encoder
TAKEN_AFTER = (6, 20, 23)  # units whose features are pooled
# Entries that no measured output depends on: the unused mapping network; the squeeze-and-excitation layers, which come
# after an instance norm, so that the means they look at are zero and they halve everything; and the first layer of the
# head of region 10, which has no pixel and hence a style vector of zeros. (The released E4S has no integer counters.)
EXEMPT = re.compile(r"G\.style\..*|encoder\.body\.\d+\.res_layer\.5\..*|MLPs\.10\.mlp\.0\.weight")
# Which entries the perturbation tests try: a sixth of each part, another one from part to part, or all.
EVERY = [pytest.param(6, id="a sixth"), pytest.param(1, id="all", marks=pytest.mark.slow)]

Output = tuple[Tensor, Tensor]


def error(got: Tensor, expected: Tensor) -> float:
    """Largest difference in standard deviations of what was expected."""
    assert got.shape == expected.shape
    return float((got - expected).abs().max() / expected.std())


def code_error(codes: Tensor, facts: dict[str, Tensor]) -> float:
    first = error(codes[0, :, 0, :64], facts["style_codes_l0"])
    return max(first, error(codes.mean((1, 3)), facts["style_codes_mean"]))


def image_error(image: Tensor, facts: dict[str, Tensor]) -> float:
    return max(
        error(image[:, :, ::8, ::8], facts["image_128"]),
        error(image[0, :, 480:544, 480:544], facts["image_crop"].view(3, 64, 64)),
        float((image.mean() - facts["image_mean"]).abs() / facts["image_std"]),
        float((image.std(correction=0) - facts["image_std"]).abs() / facts["image_std"]),
    )


def entries(model: E4S, *parts: str) -> dict[str, Tensor]:
    """Return the entries of the state dict that lie below the named parts; they share memory with the model."""
    below = tuple(f"{part}." for part in parts)
    return {name: tensor for name, tensor in model.state_dict().items() if f"{name}.".startswith(below)}


def encoder_part(unit: int) -> str:
    return "encoder.input_layer" if unit < 0 else f"encoder.body.{unit}"


def level_parts(level: int) -> tuple[tuple[str, ...], str]:
    """Name the parts that change a resolution's features, and the one that changes its colour only."""
    if level == 0:
        return ("G.input", "G.conv1", "G.noises.noise_0"), "G.to_rgb1"
    up, last = 2 * level - 2, 2 * level - 1
    styled = (f"G.convs.{up}", f"G.convs.{last}", f"G.noises.noise_{up + 1}", f"G.noises.noise_{last + 1}")
    return styled, f"G.to_rgbs.{level - 1}"


def sample(tensors: dict[str, Tensor], every: int, offset: int) -> dict[str, Tensor]:
    return {name: tensor for row, (name, tensor) in enumerate(tensors.items()) if (row + offset) % every == 0}


@contextmanager
def perturbed(name: str, tensor: Tensor) -> Iterator[None]:
    """Add or take a tenth of the size of a tensor, at least 0.01; of noise maps, whose gains are small, all of it."""
    kept = tensor.clone()
    amount = max((1.0 if "noises" in name else 0.1) * float(tensor.square().mean().sqrt()), 0.01)
    tensor += amount * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0)).sign()
    yield
    tensor.copy_(kept)


def weakest(run: Callable[[], Output], part: int, tensors: dict[str, Tensor]) -> Output | None:
    """Perturb one tensor after the other, which must show, but in exempt ones; return the outputs that changed least.

    Whether and how much is seen in the given part of the outputs. None if there were exempt tensors only, or none.
    """
    expected = run()[part]
    changes: list[tuple[float, Output]] = []
    for name, tensor in tensors.items():
        with perturbed(name, tensor):
            got = run()
        change = error(got[part], expected)
        assert (change > TOLERANCE) is not bool(EXEMPT.fullmatch(name)), f"{name} changes what comes next by {change}"
        if change > TOLERANCE:
            changes.append((change, got))
    return min(changes, key=lambda change: change[0])[1] if changes else None


def encode_on(model: E4S, done: int, features: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """Run the units after unit `done` up to the next one whose features are pooled; (1, R, C) and that unit."""
    last = next(unit for unit in TAKEN_AFTER if unit >= done)
    for unit in model.encoder.body[done + 1 : last + 1]:
        features = unit(features)
    return pool_regions([features], labels, model.config.regions), last


def draw_on(model: E4S, scene: Scene, done: int, features: Tensor, picture: Tensor) -> Tensor:
    """Draw the levels after level `done`."""
    for level in LEVELS[done + 1 :]:
        features, picture = model.G.draw_level(scene, level, features, picture)
    return picture


def test_names_shapes_and_dtypes_are_those_of_the_released_network(e4s_entries: list[dict]) -> None:
    with torch.device("meta"):
        built = E4S().state_dict()
    got = {name: (list(value.shape), str(value.dtype)) for name, value in built.items()}
    assert got == {entry["key"]: (entry["shape"], f"torch.{entry['dtype']}") for entry in e4s_entries}


def test_fixed_filters_are_those_of_the_released_network(e4s_entries: list[dict]) -> None:
    torch.manual_seed(0)
    small = E4S(E4SConfig(code=32, encoder_width=64, encoder_units=(1, 1, 1, 1))).state_dict()
    fixed = [entry["key"] for entry in e4s_entries if entry["init"] == "module"]
    assert len(fixed) == 16
    for name in fixed:
        assert torch.equal(small[name] * 16, torch.outer(*2 * [torch.tensor([1.0, 3.0, 3.0, 1.0])])), name


def test_released_weights_give_what_was_measured(released_e4s: E4S, e4s_facts: dict[str, Tensor]) -> None:
    image, labels = e4s_facts["image"][None], e4s_facts["labels"][None]
    vectors = released_e4s.style_vectors(image, labels)
    assert error(vectors, e4s_facts["style_vectors"]) < TOLERANCE
    codes = released_e4s.style_codes(vectors)
    assert code_error(codes, e4s_facts) < TOLERANCE
    drawn = released_e4s.G(codes, labels)
    assert drawn.shape == (1, 3, 1024, 1024)
    assert image_error(drawn, e4s_facts) < TOLERANCE


def test_the_perturbation_tests_leave_nothing_out(released_e4s: E4S) -> None:
    parts = ["MLPs", *map(encoder_part, UNITS)]
    for styled, colour in map(level_parts, LEVELS):
        parts += [*styled, colour]
    assert set(released_e4s.state_dict()) == set(entries(released_e4s, *parts)) | set(entries(released_e4s, "G.style"))


@pytest.mark.parametrize("every", EVERY)
def test_every_part_of_the_encoder_matters(released_e4s: E4S, e4s_facts: dict[str, Tensor], every: int) -> None:
    """Each tried entry changes what its unit gives; the least of these changes, carried on, breaks the agreement."""
    labels = e4s_facts["labels"][None]
    measured = dict(zip(TAKEN_AFTER, e4s_facts["style_vectors"].split((256, 512, 512), dim=2), strict=True))
    features = functional.interpolate(e4s_facts["image"][None], (256, 256), mode="bilinear")
    for unit in UNITS:
        part = released_e4s.get_submodule(encoder_part(unit))
        before, features = features, part(features)
        tried = sample(entries(released_e4s, encoder_part(unit)), every, unit)
        changed = weakest(lambda part=part, before=before: (part(before), before), 0, tried)
        if changed and unit % every == 0:
            vectors, last = encode_on(released_e4s, unit, changed[0], labels)
            assert error(vectors, measured[last]) > TOLERANCE, f"unit {unit} does not reach the style vectors"
        if unit in TAKEN_AFTER:
            assert error(encode_on(released_e4s, unit, features, labels)[0], measured[unit]) < TOLERANCE


def test_every_entry_of_the_style_heads_matters(released_e4s: E4S, e4s_facts: dict[str, Tensor]) -> None:
    for name, tensor in [*entries(released_e4s, "MLPs").items(), ("latent_avg", released_e4s.latent_avg)]:
        with perturbed(name, tensor):
            changed = code_error(released_e4s.style_codes(e4s_facts["style_vectors"]), e4s_facts) > TOLERANCE
        assert changed is not bool(EXEMPT.fullmatch(name)), name


@pytest.mark.parametrize("every", EVERY)
def test_every_part_of_the_generator_matters(released_e4s: E4S, e4s_facts: dict[str, Tensor], every: int) -> None:
    """As with the encoder. A change of colour is carried on by itself: the levels only add to the picture."""
    codes = released_e4s.style_codes(e4s_facts["style_vectors"])[0]
    scene = Scene(codes=codes, labels=e4s_facts["labels"])
    drawn = released_e4s.G(codes[None], scene.labels[None])
    assert image_error(drawn, e4s_facts) < TOLERANCE
    before: tuple[Tensor, ...] = ()
    for level in LEVELS:

        def run(level: int = level, before: tuple[Tensor, ...] = before) -> Output:
            return released_e4s.G.draw_level(scene, level, *before)

        styled, colour = level_parts(level)
        changed = weakest(run, 0, sample(entries(released_e4s, *styled), every, level))
        if changed and level % every == 0:
            assert image_error(draw_on(released_e4s, scene, level, *changed), e4s_facts) > TOLERANCE, styled
        before = run()
        if changed := weakest(run, 1, sample(entries(released_e4s, colour), every, level)):
            change = changed[1] - before[1]
            for to_rgb in released_e4s.G.to_rgbs[level:]:
                change = upsample(change, to_rgb.upsample.kernel)
            assert image_error(drawn + change, e4s_facts) > TOLERANCE, colour


def test_a_batch_equals_its_faces_one_by_one(small_e4s: E4S, blobs: Tensor) -> None:
    images, labels = torch.rand(2, 3, 64, 64) * 2 - 1, torch.cat([blobs, blobs.flip(2)])
    single = [small_e4s(images[row : row + 1], labels[row : row + 1]) for row in range(2)]
    assert single[0].shape == (1, 3, 128, 128)
    torch.testing.assert_close(small_e4s(images, labels), torch.cat(single), atol=1e-4, rtol=1e-4)


def test_looks_come_from_the_labels_and_outlines_from_the_target(small_e4s: E4S, blobs: Tensor) -> None:
    image, target = torch.rand(1, 3, 64, 64) * 2 - 1, blobs.flip(1)
    codes = small_e4s.style_codes(small_e4s.style_vectors(image, blobs))
    assert torch.equal(small_e4s(image, blobs, target), small_e4s.G(codes, target))
    assert torch.equal(small_e4s(image, blobs), small_e4s.G(codes, blobs))


def test_pixels_marked_255_do_not_colour_a_region(small_e4s: E4S, blobs: Tensor) -> None:
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    marked = torch.where(blobs == 3, 255, blobs).to(torch.uint8)
    vectors = small_e4s.style_vectors(image, marked)
    expected = small_e4s.style_vectors(image, blobs)
    assert torch.equal(vectors[:, :3], expected[:, :3])
    assert not vectors[:, 3].any()
    assert small_e4s(image, marked, blobs).isfinite().all()


def test_finer_layers_take_the_average_code(small_e4s: E4S) -> None:
    config = small_e4s.config
    codes = small_e4s.style_codes(torch.randn(2, config.regions, 160))
    assert codes.shape == (2, 5, 12, 32)
    assert torch.equal(codes[:, :, 9:], small_e4s.latent_avg[9:].expand(2, 5, 3, 32))
    head = small_e4s.style_codes(torch.zeros(1, 5, 160))[0, 3, :9] - small_e4s.latent_avg[:9]
    torch.testing.assert_close(head, small_e4s.MLPs[3](torch.zeros(1, 160))[0])


@pytest.mark.parametrize("size", [4, 96, 1000])
def test_a_size_that_is_no_power_of_two_is_an_error(size: int) -> None:
    with pytest.raises(ValueError, match=f"power of two of at least 8, got {size}"):
        E4SConfig(size=size)


def test_more_regional_layers_than_layers_is_an_error() -> None:
    assert E4SConfig().layers == 18
    with pytest.raises(ValueError, match=r"regional_layers must be in \[1, 10\] at 64 px, got 13"):
        E4SConfig(size=64)
