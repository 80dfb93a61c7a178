"""The models behind `s3pot serve`: one process per replica, photographs computed in batches.

    bytes -> pixels   |   batch: the faces of all photographs through the models   |   answer
    two threads       |   one thread                                               |   two threads

While a batch is computed, the next photographs are decoded and the last answers drawn. Whatever goes wrong with one
photograph is its own answer; the others of its batch never notice.
"""

import asyncio
import logging
import pickle
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from ray import serve

from ray_jobs.serve_answers import Content, face_answer, mask_picture, photograph_answer
from ray_jobs.serve_config import ServeConfig
from ray_jobs.serve_example import example_photograph
from ray_jobs.serve_gate import BatchGate
from ray_jobs.serve_messages import Answer, Refused, Wanted
from s3pot.alignment import AlignedFace
from s3pot.images import ImageError, decode_image
from s3pot.prediction import predict_occlusion
from s3pot.prefix import PrefixResult
from s3pot.segmenter import OcclusionSegmenter, SeenFace

Value = TypeVar("Value")
_log = logging.getLogger("ray.serve")


class Computed(NamedTuple):
    """What the models say of one photograph, and how long its batch took.

    Attributes:
        faces: the crops, the most prominent first.
        seen: what was seen of each.
        batch: photographs in the batch.
        locate_ms: time for finding the faces of this photograph.
        models_ms: time for running all faces of the batch through the models.
    """

    faces: list[AlignedFace]
    seen: list[SeenFace]
    batch: int
    locate_ms: float
    models_ms: float


@dataclass(frozen=True, kw_only=True)
class _State:
    """What decoding a face's mask again takes."""

    stages: PrefixResult
    face: AlignedFace
    size: tuple[int, int]


class ModelReplica:
    """The deployment that holds the models. Loaded and tried on the example before it takes requests.

    Args:
        config: of the job.
    """

    def __init__(self, config: ServeConfig) -> None:
        self._limits = config.limits
        self._segmenter = OcclusionSegmenter.load(config.chain, head=config.head, abstain=config.abstain)
        # A person who chose the prompts wants to see their mask, however little it is.
        self._never_silent = OcclusionSegmenter(
            self._segmenter.prefix, self._segmenter.reweighter, self._segmenter.aligner
        )
        self._at_once = config.batch_size
        self._models = ThreadPoolExecutor(1, "models")
        self._hands = ThreadPoolExecutor(2, "pictures")
        self._gate = BatchGate(config.batch_size)
        self._batch.set_max_batch_size(config.batch_size)  # type: ignore[attr-defined]
        self._batch.set_batch_wait_timeout_s(config.batch_wait_ms / 1000)  # type: ignore[attr-defined]
        # Before anybody waits: the first pass through a network allocates and chooses its kernels.
        self._models.submit(self._compute, [decode_image(example_photograph(), "the example")]).result()

    async def segment(self, data: bytes, wanted: Wanted) -> Answer | Refused:
        """Answer for a photograph, whose header was looked at before."""
        try:
            times = [time.perf_counter()]
            photograph = await self._in(self._hands, _decode, data)
            times.append(time.perf_counter())
            async with self._gate.passed():
                computed = await self._batch(photograph)
            if isinstance(computed, Refused):
                return computed
            times.append(time.perf_counter())
            answer = await self._in(self._hands, self._answer, photograph, computed, wanted)
            times.append(time.perf_counter())
            decode, compute, draw = (1000 * (after - before) for before, after in pairwise(times))
            waited = max(0.0, compute - computed.locate_ms - computed.models_ms)
            spent = {"decode": decode, "wait": waited, "locate": computed.locate_ms}
            return replace(answer, milliseconds=spent | {"models": computed.models_ms, "answer": draw})
        except Refused as refused:
            return refused

    async def decode(
        self, state: bytes, occlusion_prompts: list[int], face_prompts: list[int], wanted: Wanted
    ) -> Answer | Refused:
        """Decode the mask of a face again, with these prompts."""
        started = time.perf_counter()
        try:
            body = await self._in(self._models, self._decode, state, occlusion_prompts, face_prompts, wanted)
        except Refused as refused:
            return refused
        spent = {"models": 1000 * (time.perf_counter() - started)}
        return Answer(body=body, statuses=[body["status"]], milliseconds=spent)

    async def example(self) -> bytes:
        """Return the example photograph."""
        return example_photograph()

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[..., Value], *arguments: Any) -> Value:
        return await asyncio.get_running_loop().run_in_executor(pool, work, *arguments)

    @serve.batch
    async def _batch(self, photographs: list[np.ndarray]) -> list[Computed | Refused]:
        self._gate.close()
        return await self._in(self._models, self._compute, photographs)

    def _compute(self, photographs: Sequence[np.ndarray]) -> list[Computed | Refused]:
        try:
            return list(self._together(photographs))
        except Exception:
            if len(photographs) == 1:
                _log.exception("a photograph of %s could not be computed", photographs[0].shape)
                return [Refused(500, "This photograph could not be computed; the server's log says why.")]
            # One of them: each alone, so that the others get their answer.
            return [one for photograph in photographs for one in self._compute([photograph])]

    def _together(self, photographs: Sequence[np.ndarray]) -> list[Computed]:
        found, locate_ms = [], []
        for photograph in photographs:
            started = time.perf_counter()
            faces = self._segmenter.aligner.align_all(photograph, self._segmenter.prefix.size)
            found.append(faces[: self._limits.faces])
            locate_ms.append(1000 * (time.perf_counter() - started))
        started = time.perf_counter()
        everybody = [face for faces in found for face in faces]
        seen: list[SeenFace] = []
        for first in range(0, len(everybody), self._at_once):
            part = everybody[first : first + self._at_once]
            seen += self._segmenter.see(part, ["photograph"] * len(part))
        models_ms = 1000 * (time.perf_counter() - started)
        answers = iter(seen)
        return [
            Computed(faces, [next(answers) for _ in faces], len(photographs), spent, models_ms)
            for faces, spent in zip(found, locate_ms, strict=True)
        ]

    def _answer(self, photograph: np.ndarray, computed: Computed, wanted: Wanted) -> Answer:
        size = (photograph.shape[0], photograph.shape[1])
        pairs = list(zip(computed.seen, computed.faces, strict=True))
        placed = (self._segmenter.place(seen, face, size) for seen, face in pairs)
        content: Content = photograph_answer(photograph, placed, wanted)
        states = {}
        if wanted.stages and not wanted.picture:
            for number, (seen, face) in enumerate(pairs, start=1):
                # The tokens of the image are part of the batch's, which would be pickled whole; those of the reference
                # have done their part: what stands in for them is pickled once.
                tokens = seen.stages.image_tokens.clone()
                stages = replace(seen.stages, image_tokens=tokens, reference_tokens=tokens)
                states[number] = pickle.dumps(_State(stages=stages, face=face, size=size))
        return Answer(body=content.body, statuses=content.statuses, states=states, batch=computed.batch)

    def _decode(self, pickled: bytes, occlusion: list[int], face: list[int], wanted: Wanted) -> dict[str, Any]:
        state: _State = pickle.loads(pickled)  # our own, out of this cluster's memory
        rows, cols = self._segmenter.prefix.sam.token_grid
        if not all(0 <= token < rows * cols for token in (*occlusion, *face)):
            raise Refused(422, f"Prompts are numbers of tokens from 0 to {rows * cols - 1}.")
        status = "ok" if face else "no_face_prompts"
        stages = replace(
            state.stages,
            status=status if occlusion else "no_occlusion_prompts",
            occlusion_prompts=torch.tensor(occlusion, dtype=torch.int64),
            face_prompts=torch.tensor(face, dtype=torch.int64),
        )
        prefix, head = self._never_silent.prefix, self._never_silent.reweighter
        [prediction] = predict_occlusion(prefix.sam, head, [stages.record()], [stages.face_mask])
        result = self._never_silent.place(SeenFace(stages, prediction), state.face, state.size)
        return face_answer(result, replace(wanted, stages=False)) | {"picture": mask_picture(result)}


def _decode(data: bytes) -> np.ndarray:
    try:
        return decode_image(data, "the picture")
    except ImageError as error:
        raise Refused(400, f"The picture cannot be read: {error}.") from error
