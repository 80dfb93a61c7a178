"""Questions that cannot be answered are refused; answers are read strictly."""

from pathlib import Path

import pytest

from s3pot.config import load_yaml, parse
from s3pot.screening.question import Answer, Question, UnparsedAnswer, parse_answer
from tests.chat_server import QUESTION


def test_the_words_name_every_label_and_its_meaning() -> None:
    assert QUESTION.words == "Is the face covered?\n- occluded: something covers it\n- free: nothing does"


def test_braces_of_the_text_are_left_alone() -> None:
    question = Question(system="", text='{"label": "..."} {x} {labels}', labels=QUESTION.labels, chosen=("free",))
    assert question.words.startswith('{"label": "..."} {x} - occluded')


def test_the_schema_is_one_and_says_what_the_parser_takes() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(QUESTION.schema)
    jsonschema.validate({"reason": "a hand", "label": "occluded"}, QUESTION.schema)
    for wrong in ({"label": "occluded"}, {"reason": "", "label": "both"}, {"reason": "", "label": "free", "x": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, QUESTION.schema)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": {"occluded": "x"}}, "labels: name at least two"),
        ({"chosen": ("hand",)}, r"chosen must name some of occluded, free, got \['hand'\]"),
        ({"chosen": ()}, "chosen must name some"),
        ({"text": "Say occluded or not."}, "text says nothing of the labels free"),
    ],
)
def test_a_question_that_cannot_be_answered(changed: dict, message: str) -> None:
    values = {name: getattr(QUESTION, name) for name in ("system", "text", "labels", "chosen")}
    with pytest.raises(ValueError, match=message):
        Question(**{**values, **changed})


@pytest.mark.parametrize(
    "text",
    [
        '{"reason": " a hand ", "label": "occluded"}',
        ' \n{"label": "occluded", "reason": "a hand"}\n',
        '{"reason":"a h\\u0061nd","label":"occluded"}',
    ],
)
def test_an_answer_of_the_right_form(text: str) -> None:
    assert parse_answer(text, QUESTION) == Answer(label="occluded", reason="a hand")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("occluded", "no JSON"),
        ("", "no JSON"),
        ('```json\n{"reason": "a hand", "label": "occluded"}\n```', "no JSON"),
        ('{"reason": "a hand", "label": "occluded"} I hope this helps!', "no JSON"),
        ('{"reason": "a hand", "label": "occl', "no JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('["occluded"]', "got list"),
        ('"occluded"', "got str"),
        ("null", "got NoneType"),
        ('{"label": "occluded"}', r"got an object with \['label'\]"),
        ('{"reason": "a hand", "label": "occluded", "confidence": 1}', "confidence"),
        ('{"reason": "a hand", "label": "free", "label": "occluded"}', "a key stands there twice"),
        ('{"reason": "a hand", "label": "Occluded"}', "the label is none of occluded, free: 'Occluded'"),
        ('{"reason": "a hand", "label": ["occluded"]}', "the label is none"),
        ('{"reason": "a hand", "label": null}', "the label is none"),
        ('{"reason": "  ", "label": "free"}', "the reason is no text"),
        ('{"reason": 3, "label": "free"}', "the reason is no text"),
    ],
)
def test_any_other_answer_is_not_guessed_at(text: str, message: str) -> None:
    with pytest.raises(UnparsedAnswer, match=message):
        parse_answer(text, QUESTION)


def test_the_question_that_ships_is_sound(repository: Path) -> None:
    written = load_yaml(repository / "experiments" / "screen_qwen_vl.yaml")["question"]
    question = parse(Question, written, where="screen_qwen_vl.yaml")
    assert question.chosen == ("occluded",)
    assert "{labels}" not in question.words
