"""What a head depends on, and what it works across."""

from dataclasses import replace
from pathlib import Path

import pytest

from s3pot.chain import ChainConfig
from s3pot.head.prefix_identity import prefix_description, prefix_identity
from s3pot.matching.selector import SelectorConfig
from s3pot.prefix import PrefixConfig

pytestmark = pytest.mark.usefixtures("random_weights")


def test_what_changes_prompts_or_tokens_counts() -> None:
    base = ChainConfig()
    others = [
        replace(base, enhance_point_only=True),
        replace(base, prefix=PrefixConfig(face_completion="hull")),
        replace(base, prefix=PrefixConfig(feature_enhancement=True)),
        replace(base, prefix=PrefixConfig(initial_prompt="random")),
        replace(base, prefix=PrefixConfig(selector=SelectorConfig(kind="otsu"))),
        replace(base, prefix=PrefixConfig(reference_degradation=0.5)),
        replace(base, prefix=PrefixConfig(most_prompts=8)),
        replace(base, generator="precomputed", references=Path("folder")),
    ]
    identities = {prefix_identity(prefix_description(config)) for config in (base, *others)}
    assert len(identities) == 1 + len(others)


def test_what_a_head_works_across_does_not(tmp_path: Path) -> None:
    base = ChainConfig()
    landmarks = tmp_path / "landmarks.csv"
    landmarks.write_text("a")
    for same in (
        replace(base, alignment="none"),
        replace(base, alignment="landmarks", landmarks=landmarks),
        replace(base, faces="all"),
        replace(base, size=512),
        replace(base, device="cuda", sam_compile=True, sam_precision="bf16"),
        replace(base, prefix=replace(base.prefix, seed=5)),
    ):
        assert prefix_description(same) == prefix_description(base)


@pytest.mark.parametrize("part", ["sam", "parser", "generator"])
def test_weights_count_by_content_and_not_by_place(part: str, tmp_path: Path) -> None:
    def description(name: str, content: bytes) -> dict[str, str]:
        (tmp_path / name).write_bytes(content)
        checkpoint = {f"{part}_checkpoint": tmp_path / name}
        return prefix_description(ChainConfig(**{part: official}, **checkpoint))

    official = {"sam": "vit_b", "parser": "bisenet", "generator": "e4s"}[part]
    here = description("here.pth", b"weights")
    assert description("there.pth", b"weights") == here
    other = description("other.pth", b"other weights")
    assert {name for name in here | other if here.get(name) != other.get(name)} == {f"weights.{part}"}


def test_the_order_of_a_description_does_not_matter() -> None:
    description = prefix_description(ChainConfig())
    assert prefix_identity(dict(reversed(description.items()))) == prefix_identity(description)


def test_heads_made_before_an_option_of_ablations_existed_keep_their_prefix() -> None:
    # The keys that the shipped head's file holds.
    assert {name for name in prefix_description(ChainConfig()) if not name.startswith("weights.")} == {
        *("sam", "enhance_point_only", "parser", "generator", "face_completion", "feature_enhancement"),
        *("initial_prompt", "selector.kind", "selector.tau", "selector.centered", "fresh_noise"),
    }
