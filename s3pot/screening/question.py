"""What a vision-language model is asked about a picture, and the one form of answer that counts.

The paper had Qwen pick occluded faces out of CelebAMask-HQ and FFHQ "with carefully designed language prompts" and does
not print them [S3POT §4]; ours are data, in experiments/. An answer is a JSON object with a `reason` and one of the
named labels, and nothing else: whatever a model says besides is kept as text, and never guessed at.
"""

import json
from dataclasses import dataclass
from typing import Any

LABELS = "{labels}"
"""Stands in a question for the list of labels and their meanings."""
_KEYS = ("reason", "label")


class UnparsedAnswer(ValueError):
    """A model's answer is not of the form that was asked for; the message says in what."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked about each picture.

    Attributes:
        system: instruction before the picture.
        text: the question, after the picture; `{labels}` becomes the list of labels and their meanings.
        labels: names that an answer may give, each with its meaning.
        chosen: labels whose images are wanted.
    """

    system: str
    text: str
    labels: dict[str, str]
    chosen: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check that a model can know every label, and that something can be chosen."""
        if len(self.labels) < 2:
            raise ValueError("labels: name at least two, or every answer is the same")
        unknown = [name for name in self.chosen if name not in self.labels]
        if unknown or not self.chosen:
            raise ValueError(f"chosen must name some of {', '.join(self.labels)}, got {list(self.chosen)}")
        untold = [name for name in self.labels if name not in self.words]
        if untold:
            raise ValueError(f"text says nothing of the labels {', '.join(untold)}: name them, or write {LABELS}")

    @property
    def words(self) -> str:
        """The question as it is sent."""
        listed = "\n".join(f"- {name}: {meaning}" for name, meaning in self.labels.items())
        return self.text.replace(LABELS, listed)

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of an answer; the reason comes first, so that the label follows from it."""
        return {
            "type": "object",
            "properties": {"reason": {"type": "string"}, "label": {"type": "string", "enum": list(self.labels)}},
            "required": list(_KEYS),
            "additionalProperties": False,
        }


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A label and why."""

    label: str
    reason: str


def parse_answer(text: str, question: Question) -> Answer:
    """Read an answer, strictly.

    Raises:
        UnparsedAnswer: if it is anything else than a JSON object with `reason`, some text, and `label`, one of the
            question's.
    """
    try:
        found = json.loads(text, object_pairs_hook=_without_repetition)
    except RecursionError as error:
        raise UnparsedAnswer("no JSON: nested too deeply") from error
    except UnparsedAnswer:
        raise
    except ValueError as error:
        raise UnparsedAnswer(f"no JSON: {error}") from error
    if not isinstance(found, dict) or set(found) != set(_KEYS):
        came = f"an object with {sorted(found)}" if isinstance(found, dict) else type(found).__name__
        raise UnparsedAnswer(f"expected an object with the keys {' and '.join(_KEYS)}, got {came}")
    label, reason = found["label"], found["reason"]
    if not isinstance(label, str) or label not in question.labels:
        raise UnparsedAnswer(f"the label is none of {', '.join(question.labels)}: {label!r:.80}")
    if not isinstance(reason, str) or not reason.strip():
        raise UnparsedAnswer("the reason is no text")
    return Answer(label=label, reason=reason.strip())


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # JSON takes the last of two labels; which one was meant nobody knows.
    if len({name for name, _ in pairs}) < len(pairs):
        raise UnparsedAnswer("a key stands there twice")
    return dict(pairs)
