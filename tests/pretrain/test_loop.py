import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from s3pot.pretrain.loop import Batch, Phase, PretrainConfig, pretrain

SHORT = (Phase(size=32, steps=4, batch=2), Phase(size=64, steps=8, batch=3))


class Powerless(RuntimeError):
    """The power cut of a test."""


class Tiny(nn.Module):
    """A linear model that counts the batches it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.register_buffer("seen", torch.tensor(0))

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen += 1
        return self.linear(inputs)


def tiny() -> Tiny:
    torch.manual_seed(0)
    return Tiny()


def make_batch(step: int, phase: Phase) -> Batch:
    """A regression whose samples derive from the step alone."""
    inputs = torch.randn(phase.batch, 3, generator=torch.Generator().manual_seed(step))
    target = inputs @ torch.tensor([[1.0], [-2.0], [0.5]])
    return {"inputs": inputs, "target": target, "step": step, "size": phase.size}


def squared_error(model: Tiny, on_batch: Callable[[Batch], None] = lambda batch: None) -> Callable:
    def loss_of(batch: Batch) -> dict[str, Tensor]:
        on_batch(batch)
        loss = (model(batch["inputs"]).float() - batch["target"]).square().mean()
        return {"loss": loss, "error": loss.detach().sqrt()}

    return loss_of


def train(
    model: Tiny,
    checkpoint: Path,
    config: PretrainConfig,
    on_batch: Callable[[Batch], None] = lambda batch: None,
    report: Callable[[int, dict[str, float]], None] = lambda step, terms: None,
) -> Tiny:
    return pretrain(model, make_batch, squared_error(model, on_batch), config, checkpoint, report)


def cut_at(step: int) -> Callable[[Batch], None]:
    def on_batch(batch: Batch) -> None:
        if batch["step"] == step:
            raise Powerless

    return on_batch


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The learning rate of every optimizer step."""
    seen: list[float] = []

    class Recording(torch.optim.AdamW):
        def step(self, closure: None = None) -> None:
            seen.append(self.param_groups[0]["lr"])
            super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Recording)
    return seen


@pytest.mark.parametrize("cut", [1, 5, 11])
def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path, cut: int) -> None:
    config = PretrainConfig(phases=SHORT, learning_rate=0.05, average=0.7, checkpoint_minutes=0.0)
    whole = train(tiny(), tmp_path / "whole.pt", config)
    with pytest.raises(Powerless):
        train(tiny(), tmp_path / "cut.pt", config, cut_at(cut))
    assert torch.load(tmp_path / "cut.pt")["step"] == cut
    torch.manual_seed(99)  # the resuming process starts from other random weights
    resumed = train(Tiny(), tmp_path / "cut.pt", config)
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)
    ends = [torch.load(tmp_path / name) for name in ("whole.pt", "cut.pt")]
    torch.testing.assert_close(ends[0]["model"], ends[1]["model"], rtol=1e-5, atol=1e-6)


def test_the_learning_rate_schedule_continues(tmp_path: Path, rates: list[float]) -> None:
    phases = (Phase(size=32, steps=60, batch=1),)
    config = PretrainConfig(phases=phases, learning_rate=0.1, checkpoint_minutes=0.0)
    with pytest.raises(Powerless):
        train(tiny(), tmp_path / "c.pt", config, cut_at(20))
    train(tiny(), tmp_path / "c.pt", config)
    # 60 / 20 = 3 warm-up steps; 0.4 of 60 = 24 steps of falling at the end.
    expected = [0.1 * min((step + 1) / 3, 1.0, (60 - step) / 24) for step in range(60)]
    assert rates == pytest.approx(expected, abs=1e-7)


def test_the_warm_up_lasts_at_most_a_hundred_steps(tmp_path: Path, rates: list[float]) -> None:
    config = PretrainConfig(phases=(Phase(size=32, steps=4000, batch=1),), learning_rate=0.1, checkpoint_minutes=0.0)
    with pytest.raises(Powerless):
        train(tiny(), tmp_path / "c.pt", config, cut_at(3))
    assert rates == pytest.approx([0.001, 0.002, 0.003], rel=1e-4)


def test_batches_come_in_order_each_at_the_size_of_its_phase(tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []
    config = PretrainConfig(phases=SHORT)
    train(tiny(), tmp_path / "c.pt", config, lambda b: seen.append((b["step"], b["size"], len(b["inputs"]))))
    assert seen == [(step, 32, 2) for step in range(4)] + [(step, 64, 3) for step in range(4, 12)]


def test_what_is_left_is_the_moving_average_of_the_weights(tmp_path: Path) -> None:
    model, weights = tiny(), []
    before = model.linear.weight.detach().clone()
    config = PretrainConfig(phases=SHORT, learning_rate=0.05, average=0.5)
    train(model, tmp_path / "c.pt", config, lambda batch: weights.append(model.linear.weight.detach().clone()))
    last = torch.load(tmp_path / "c.pt")["model"]["linear.weight"]
    expected = before
    for step, after in enumerate([*weights[1:], last]):  # the weights seen at a batch are those after the last step
        decay = min(0.5, (step + 1) / (step + 10))  # short at first, so that random weights are forgotten
        expected = decay * expected + (1 - decay) * after
    torch.testing.assert_close(model.linear.weight, expected, rtol=1e-5, atol=1e-6)
    assert (model.linear.weight - last).abs().max() > 1e-3, "the last weights are something else"
    assert model.seen == 12, "integers are not averaged"
    assert not model.training


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    reports: list[tuple[int, dict[str, float]]] = []
    config = PretrainConfig(phases=(Phase(size=32, steps=150, batch=16),), learning_rate=0.1, average=0.9)
    train(tiny(), tmp_path / "c.pt", config, report=lambda *given: reports.append(given))
    assert [step for step, _ in reports] == [50, 100, 150]
    assert reports[-1][1]["loss"] < 0.05 * reports[0][1]["loss"]
    assert all(terms["images_per_second"] > 0 and terms["size"] == 32 for _, terms in reports)


def test_reported_terms_are_means_also_after_a_resumption(tmp_path: Path) -> None:
    reports: list[tuple[int, dict[str, float]]] = []

    def always_two(model: Tiny, cut: int | None = None) -> Callable:
        def loss_of(batch: Batch) -> dict[str, Tensor]:
            if batch["step"] == cut:
                raise Powerless
            return {"loss": 2.0 + 0.0 * model(batch["inputs"]).float().sum(), "step": torch.tensor(batch["step"])}

        return loss_of

    config = PretrainConfig(phases=(Phase(size=32, steps=60, batch=1),), checkpoint_minutes=0.0)
    model = tiny()
    with pytest.raises(Powerless):
        pretrain(model, make_batch, always_two(model, 30), config, tmp_path / "c.pt", lambda *given: None)
    model = tiny()
    pretrain(model, make_batch, always_two(model), config, tmp_path / "c.pt", lambda *given: reports.append(given))
    assert [step for step, _ in reports] == [50, 60]
    assert [terms["loss"] for _, terms in reports] == pytest.approx([2.0, 2.0])
    assert [terms["step"] for _, terms in reports] == pytest.approx([39.5, 54.5])


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    config = PretrainConfig(phases=SHORT, learning_rate=0.05)
    first = train(tiny(), tmp_path / "c.pt", config)

    def never(batch: Batch) -> None:
        raise AssertionError("there is no step left")

    again = train(tiny(), tmp_path / "c.pt", config, never)
    assert torch.equal(again.linear.weight, first.linear.weight)


def test_a_checkpoint_of_another_schedule_is_not_gone_on_with(tmp_path: Path) -> None:
    train(tiny(), tmp_path / "c.pt", PretrainConfig(phases=SHORT, learning_rate=0.05))
    with pytest.raises(ValueError, match=r"c\.pt was trained with .*learning_rate=0\.05.*Move it away"):
        train(tiny(), tmp_path / "c.pt", PretrainConfig(phases=SHORT, learning_rate=0.02))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_training(tmp_path: Path, bad: float) -> None:
    model = tiny()

    def loss_of(batch: Batch) -> dict[str, Tensor]:
        loss = model(batch["inputs"]).float().square().mean()
        return {"loss": loss * bad if batch["step"] == 3 else loss}

    config = PretrainConfig(phases=SHORT, checkpoint_minutes=0.0)
    with pytest.raises(FloatingPointError, match="at step 3"):
        pretrain(model, make_batch, loss_of, config, tmp_path / "c.pt", lambda *given: None)
    state = torch.load(tmp_path / "c.pt")
    assert state["step"] == 3
    assert all(torch.isfinite(tensor).all() for tensor in state["model"].values())


def test_an_interrupted_write_leaves_the_older_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = PretrainConfig(phases=SHORT, checkpoint_minutes=0.0)
    with pytest.raises(Powerless):
        train(tiny(), tmp_path / "c.pt", config, cut_at(2))
    real_save = torch.save

    def half(state: object, path: Path) -> None:
        real_save(state, path)
        path.write_bytes(path.read_bytes()[:50])
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="no space"):
        train(tiny(), tmp_path / "c.pt", config)
    assert torch.load(tmp_path / "c.pt")["step"] == 2


def test_phases_by_hand() -> None:
    config = PretrainConfig(phases=SHORT)
    assert config.total_steps == 12
    assert [config.phase_at(step).size for step in (0, 3, 4, 11)] == [32, 32, 64, 64]
    with pytest.raises(IndexError, match="0 past the last phase"):
        config.phase_at(12)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"phases": ()}, "phases"),
        ({"phases": (Phase(size=32, steps=0, batch=1),)}, "phases"),
        ({"phases": (Phase(size=32, steps=1, batch=0),)}, "phases"),
        ({"phases": (Phase(size=32, steps=1, batch=1), Phase(size=40, steps=1, batch=1))}, "phases"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": 1.0}, "learning_rate"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"average": 1.0}, "average"),
        ({"average": -0.1}, "average"),
        ({"decay_share": 0.0}, "decay_share"),
        ({"decay_share": 1.1}, "decay_share"),
    ],
)
def test_settings_out_of_range_are_errors(change: dict, names: str) -> None:
    with pytest.raises(ValueError, match=names):
        PretrainConfig(**({"phases": SHORT} | change))
