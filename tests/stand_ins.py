"""Stand-ins for trained models and stored records: random weights of fixed seeds, a parser that sees a drawn face."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn
from torch.nn import functional

from s3pot.alignment import FaceAligner
from s3pot.embedded import save_weights
from s3pot.head.records import PromptRecord
from s3pot.head.reweighter import PromptReweighter, ReweighterConfig
from s3pot.locator import FaceLocator, FaceMaps, LocatedFace
from s3pot.parsing.network import FaceParser
from s3pot.prefix import FrozenPrefix, PrefixConfig
from s3pot.reference.generator import ReferenceGenerator, one_hot_parsing
from s3pot.sam.nano_encoder import NanoImageEncoder
from s3pot.sam.promptable import PromptableSam
from s3pot.sam.sizes import build_sam
from s3pot.seeding import torch_generator
from tests.faces import draw_face

Network = TypeVar("Network", bound=nn.Module)


def tiny_stock_sam(seed: int = 0) -> Sam:
    """A SAM of stock classes with 8 x 8 tokens of 8 px and 32 channels: a step takes milliseconds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sam = Sam(
            image_encoder=NanoImageEncoder(img_size=64, out_chans=32),
            prompt_encoder=PromptEncoder(
                embed_dim=32, image_embedding_size=(8, 8), input_image_size=(64, 64), mask_in_chans=4
            ),
            mask_decoder=MaskDecoder(
                num_multimask_outputs=0,
                transformer=TwoWayTransformer(depth=2, embedding_dim=32, mlp_dim=64, num_heads=2),
                transformer_dim=32,
                iou_head_depth=2,
                iou_head_hidden_dim=32,
            ),
        )
    return sam.eval()


def tiny_sam(seed: int = 0) -> PromptableSam:
    """`tiny_stock_sam` as the chain uses it."""
    return PromptableSam(tiny_stock_sam(seed).requires_grad_(False))


class DrawnFaceParser(FaceParser):
    """Sees the drawn face in every picture, whatever the picture shows."""

    def forward(self, image: Tensor) -> Tensor:
        parsing = torch.from_numpy(draw_face(image.shape[-1])[1])
        return one_hot_parsing(parsing[None]).expand(len(image), -1, -1, -1)


class FixedLocator(FaceLocator):
    """Sees the same faces, given in shares of the picture's long side, in every picture that is not of one colour."""

    def __init__(self, *faces: LocatedFace) -> None:
        super().__init__()
        self.faces = faces

    def forward(self, picture: Tensor) -> FaceMaps:
        batch, size = picture.shape[0], picture.shape[-1]
        maps = torch.zeros(batch, 6, size // 8, size // 8)
        maps[:, 0] = -20.0
        for face in self.faces if picture.std() > 0.1 else ():
            x, y = face.x * size / 8 - 0.5, face.y * size / 8 - 0.5
            turn = math.sin(face.roll), math.cos(face.roll)
            score = math.log(face.score / (1 - face.score)) if face.score < 1 else 20.0
            values = torch.tensor([score, x - round(x), y - round(y), math.log(face.side), *turn])
            maps[:, :, round(y), round(x)] = values
        return FaceMaps(maps[:, 0], maps[:, 1:3], maps[:, 3], maps[:, 4:])


# By eye: the eyes lie at about (205, 105) and (243, 105) in the photograph, the mouth at (222, 145).
ASTRONAUT = LocatedFace(x=223.5, y=108.5, side=152.0)


def astronaut_aligner() -> FaceAligner:
    """An aligner whose locator sees the face of scikit-image's astronaut, 512 x 512, wherever it looks."""
    share = LocatedFace(x=224 / 512, y=109 / 512, side=152 / 512, score=0.9)
    return FaceAligner("detect", FixedLocator(share).eval())


def drawn_prefix(config: PrefixConfig | None = None, sam: PromptableSam | None = None) -> FrozenPrefix:
    """A frozen prefix that always finds the drawn face; generator and SAM have random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = ReferenceGenerator().eval().requires_grad_(False)
    return FrozenPrefix(DrawnFaceParser(), generator, sam or tiny_sam(), config or PrefixConfig())


def small_reweighter(embed_dim: int = 32, seed: int = 0, *, trained_looking: bool = False) -> PromptReweighter:
    """A residual reweighter, untrained, or with noise on every weight so that it does something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reweighter = PromptReweighter(ReweighterConfig(embed_dim=embed_dim, num_heads=2))
        if trained_looking:
            with torch.no_grad():
                for parameter in reweighter.parameters():
                    parameter.add_(0.3 * torch.randn_like(parameter))
    return reweighter


def random_record(name: str, occlusion: int, face: int, sam: PromptableSam | None = None) -> PromptRecord:
    """A record of `tiny_sam` (or of another SAM) with so many prompts, drawn from its name."""
    (rows, cols), width = (sam.token_grid, sam.embed_dim) if sam else ((8, 8), 32)
    draw = torch_generator(0, "tests/record", name)
    order = torch.randperm(rows * cols, generator=draw)
    return PromptRecord(
        id=name,
        image_tokens=torch.randn(width, rows, cols, generator=draw).half(),
        occlusion_prompts=order[:occlusion].sort().values,
        face_prompts=order[occlusion : occlusion + face].sort().values,
    )


def answering(network: type[Network], logits: Tensor) -> Network:
    """A network of this class that answers with these logits, its only parameter, whatever it is shown."""

    class Fixed(network):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.logits = nn.Parameter(logits)

        def forward(self, image: Tensor) -> Tensor:
            return self.logits

    return Fixed()


def write_reweighter(reweighter: PromptReweighter, path: Path) -> Path:
    """Write a head as a training does: its file says how it is built."""
    save_weights(reweighter, path, {"model": "reweighter", "reweighter": json.dumps(asdict(reweighter.config))})
    return path


def write_random_weights(folder: Path) -> Path:
    """Write the files of the embedded models into a folder for `$S3POT_WEIGHTS`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_weights(FaceParser(), folder / "face_parser.safetensors", {"model": "parser"})
        save_weights(FaceLocator(), folder / "face_locator.safetensors", {"model": "locator"})
        save_weights(ReferenceGenerator(), folder / "reference_generator.safetensors", {"model": "generator"})
    save_weights(build_sam("nano"), folder / "nano_sam.safetensors", {"model": "nano_sam"})
    write_reweighter(small_reweighter(128, trained_looking=True), folder / "reweighter.safetensors")
    return folder


def textured_face(seed: int = 0, size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """The drawn face with smooth noise over it, so that no two places look the same, and its parsing."""
    image, parsing = draw_face(size, seed)
    coarse = torch.randn(1, 3, size // 8, size // 8, generator=torch_generator(0, "tests/texture", str(seed)))
    noise = functional.interpolate(coarse, size=(size, size), mode="bicubic")[0].permute(1, 2, 0).numpy()
    return np.clip(image + 25 * noise, 0, 255).astype(np.uint8), parsing
