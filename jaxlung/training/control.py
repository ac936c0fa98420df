"""Lowers the learning rate and ends training, depending on the validation losses.

The rules are those of Keras 3, `ReduceLROnPlateau` and `EarlyStopping` in mode "min", as pure
functions of a small state that is saved in checkpoints. The two rules are independent.
"""

import dataclasses
import math
from typing import Any


@dataclasses.dataclass(frozen=True)
class Settings:
    """The section `control` of a config.

    Attributes:
        plateau_patience: epochs without improvement before the learning rate is reduced; 0: never
            (in Keras, 0 acts as 1).
        plateau_factor: the learning rate is multiplied by this, in (0, 1).
        plateau_min_delta: a loss lower by no more than this is no improvement, nats.
        plateau_cooldown: epochs after a reduction that don't count as waiting.
        min_learning_rate: the learning rate is not reduced below this.
        stop_patience: epochs without improvement before training stops; 0: never (in Keras, 0
            acts as 1). 1 stops when the loss did not fall once.
        stop_min_delta: for stopping, a loss lower by no more than this is no improvement, nats.

    Raises:
        ValueError: a field is out of range.
    """

    plateau_patience: int
    plateau_factor: float
    plateau_min_delta: float
    plateau_cooldown: int
    min_learning_rate: float
    stop_patience: int
    stop_min_delta: float

    def __post_init__(self) -> None:
        for name in ("plateau_patience", "plateau_cooldown", "stop_patience"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise ValueError(f"control.{name}: got {value!r}, want a whole number, 0 or more.")
        for name in ("plateau_min_delta", "min_learning_rate", "stop_min_delta"):
            value = getattr(self, name)
            if not (_is_number(value) and value >= 0):
                raise ValueError(f"control.{name}: got {value!r}, want a number, 0 or more.")
        factor = self.plateau_factor
        if not (_is_number(factor) and 0 < factor < 1):
            raise ValueError(
                f"control.plateau_factor: got {factor!r}, want a number between 0 and 1."
            )


@dataclasses.dataclass(frozen=True)
class State:
    """The state of both rules between two epochs.

    Attributes:
        learning_rate: learning rate of the next epoch.
        plateau_best: lowest validation loss that counted as an improvement; None before the
            first epoch, on which every loss improves.
        plateau_wait: epochs since `plateau_best`, or since the last reduction or cooldown.
        plateau_cooldown: epochs of cooldown that are left.
        stop_best: lowest validation loss that counted as an improvement for stopping.
        stop_wait: epochs since `stop_best`.
        stopped: True once training is over.
    """

    learning_rate: float
    plateau_best: float | None = None
    plateau_wait: int = 0
    plateau_cooldown: int = 0
    stop_best: float | None = None
    stop_wait: int = 0
    stopped: bool = False


def start(learning_rate: float) -> State:
    """Returns the state before the first epoch."""
    return State(learning_rate=float(learning_rate))


def after_epoch(settings: Settings, state: State, val_loss: float) -> State:
    """Returns the state with which the next epoch begins.

    Args:
        settings: settings of both rules.
        state: state with which this epoch began.
        val_loss: validation loss at the end of this epoch, finite. The first epoch always
            improves, so Keras's rule that it never stops training needs no code.
    """
    val_loss = float(val_loss)  # NumPy's float32 is not JSON and compares in 32 bits.
    assert math.isfinite(val_loss), val_loss
    return _stop(settings, _reduce_on_plateau(settings, state, val_loss), val_loss)


def to_json(state: State) -> dict[str, Any]:
    """Returns the state as plain values, which `json` writes without loss."""
    return dataclasses.asdict(state)


def from_json(values: dict[str, Any]) -> State:
    """Reads what `to_json` returned.

    Raises:
        ValueError: the fields are not those of a state.
    """
    names = [field.name for field in dataclasses.fields(State)]
    if sorted(values) != sorted(names):
        raise ValueError(
            f"training control: got fields {', '.join(sorted(values))}, want {', '.join(names)}."
        )
    return State(**values)


def _reduce_on_plateau(settings: Settings, state: State, val_loss: float) -> State:
    if not settings.plateau_patience:
        return state
    cooldown = max(state.plateau_cooldown - 1, 0)
    if state.plateau_best is None or val_loss < state.plateau_best - settings.plateau_min_delta:
        return dataclasses.replace(
            state, plateau_best=val_loss, plateau_wait=0, plateau_cooldown=cooldown
        )
    wait = state.plateau_wait + (not cooldown)  # In a cooldown it is 0 and stays so.
    learning_rate = state.learning_rate
    # At the lowest rate nothing happens and, as in Keras, `wait` keeps growing.
    if wait >= settings.plateau_patience and learning_rate > settings.min_learning_rate:
        learning_rate = max(learning_rate * settings.plateau_factor, settings.min_learning_rate)
        wait, cooldown = 0, settings.plateau_cooldown
    return dataclasses.replace(
        state, learning_rate=learning_rate, plateau_wait=wait, plateau_cooldown=cooldown
    )


def _stop(settings: Settings, state: State, val_loss: float) -> State:
    if not settings.stop_patience:
        return state
    # Keras adds here where it subtracts on plateaus: they differ in the last bit.
    if state.stop_best is None or val_loss + settings.stop_min_delta < state.stop_best:
        return dataclasses.replace(state, stop_best=val_loss, stop_wait=0)
    wait = state.stop_wait + 1
    stopped = state.stopped or wait >= settings.stop_patience
    return dataclasses.replace(state, stop_wait=wait, stopped=stopped)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
