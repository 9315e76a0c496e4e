"""One look at the clean run before a game starts: shapes, modes, and everything that would go
wrong silently.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name
from torch.overrides import TorchFunctionMode

from ..players import Players
from ..players.blocks import encodes_and_decodes
from ..taps import Call, Site, edited, module_at, run, unmoved
from ..types import BadRequest
from ..values import BoxScore, Probability, Relative, Value
from .base import checked
from .calls import IMAGE_AXES, Convention
from .folded import apart
from .wrap import out_of_memory

SATURATED = 0.99
# what torch and Python raise where an input does not fit
FAILURES = (RuntimeError, ValueError, IndexError, TypeError)


@dataclass(frozen=True, eq=False)
class Clean:
    """What the explained input looks like inside the model."""

    convention: Convention
    # (instance, *support) at every site of the players; windows that are folded into the batch are
    # the first axis of the support
    activations: Mapping[Site, Tensor]
    value: Value  # what is explained, completed by the clean run where it is relative to it
    values: Tensor  # (instance, *out)
    notes: tuple[str, ...]
    supports: Mapping[Site, tuple[int, ...]]  # what is gated there: the activation or a view of it
    runs: int  # forward passes that this look has cost


def survey(
    model: nn.Module,
    convention: Convention,
    value: Value,
    players: Players,
    weights: Mapping[str, Tensor] | None = None,
) -> Clean:
    """Runs the model once on the explained input and checks that the question makes sense."""
    for site in players.owner:
        module_at(model, site.path)
    seen: dict[Site, Tensor] = {}
    looks = {site: _keep(seen, site) for site in players.owner}
    try:
        convention, output = _layout(model, convention, looks, weights)
    except FAILURES as failure:
        refused = unrunnable(model, convention.call, failure)
        if refused is None:
            raise
        raise refused from failure
    value = value.against(output) if isinstance(value, Relative) else value
    values = value(output)
    if len(values) != convention.instances:
        raise BadRequest(
            f"{value} gave {len(values)} values for {convention.instances} instances; a value has "
            "one entry per instance"
        )
    everyone = torch.ones(len(values), players.n, dtype=torch.bool)
    values = checked(values, everyone, f"{value} of {type(model).__name__} on the input as it is")
    supports = {}
    looked = len(seen) > 0 and any(len(x) != convention.instances for x in seen.values())
    seen = apart(model, convention, seen, weights) if looked else seen
    for site in players.owner:
        _check_site(model, convention, site, seen[site])
        supports[site] = _check_owners(players, site, seen[site])
    return Clean(convention, seen, value, values, _notes(value, values), supports, 1 + looked)


def unrunnable(model: nn.Module, call: Call, failure: Exception) -> BadRequest | None:
    """The error for an input on which the model itself fails; None where the failure is another: a
    class of its own means something to whoever wrote the model.
    """
    if type(failure) not in FAILURES or out_of_memory(failure):
        return None
    names = list(inspect.signature(model.forward).parameters)
    given = ", ".join(
        f"{names[name] if isinstance(name, int) and name < len(names) else name}: "
        f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}"
        for name, x in call.tensors().items()
    )
    lines = str(failure).strip().splitlines() or [type(failure).__name__]
    kinds = {str(p.dtype).removeprefix("torch.") for p in model.parameters()}
    weights = f" (its parameters are {' and '.join(sorted(kinds))})" if kinds else ""
    if encodes_and_decodes(model) and "decoder_input_ids" not in call.kwargs:
        return BadRequest(
            f"{type(model).__name__} could not run on this input ({given}): {lines[0]}. An "
            "encoder-decoder reads two texts; ask about both: ap.ModelGame(model, {'input_ids': "
            "ids, 'decoder_input_ids': begun}, ...), where what was written so far begins with "
            "model.config.decoder_start_token_id"
        )
    return BadRequest(
        f"the model could not run on this input ({given}): {lines[0]}. Prepare the input as the "
        "model takes it: a batch axis in front (x[None]), as many columns, channels or tokens as "
        f"it was built for, token numbers inside its vocabulary, and its dtype{weights}; "
        "model(*input) has to work first"
    )


def _keep(seen: dict[Site, Tensor], site: Site) -> Callable[[Tensor], Tensor]:
    def look(x: Tensor) -> Tensor:
        seen[site] = x.detach().clone()
        return x

    return look


def _layout(
    model: nn.Module,
    convention: Convention,
    looks: dict[Site, Callable],
    weights: Mapping[str, Tensor] | None,
) -> tuple[Convention, Any]:
    """The clean run, with pictures channels-last where the model takes that (models that call
    .view may not).
    """
    pictures = any(
        x.ndim == IMAGE_AXES and x.is_floating_point() for x in convention.call.tensors().values()
    )
    if pictures:
        try:
            fast = replace(convention, channels_last=True)
            return fast, _watched(model, fast, looks, weights)
        except RuntimeError as failure:
            if "view" not in str(failure):
                raise
    return convention, _watched(model, convention, looks, weights)


def _watched(
    model: nn.Module,
    convention: Convention,
    looks: dict[Site, Callable],
    weights: Mapping[str, Tensor] | None,
) -> Any:
    with torch.no_grad(), unmoved(model), edited(model, looks), _Modes():
        return run(model, convention.rows(1), weights)


def steady() -> TorchFunctionMode:
    """Inside, whatever would make one row's value random or dependent on other rows is refused."""
    return _Modes()


class _Modes(TorchFunctionMode):
    """Refuses operations that make values random or let rows of a batch see each other."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if (
            func in _DROPOUTS
            and _argument(args, kwargs, 1, "p", 0.5) > 0
            and _argument(args, kwargs, 2, "training", True)
        ):
            raise BadRequest(
                "the model drops units at random: it is in training mode. Call model.eval() first."
            )
        if func is F.batch_norm and _argument(args, kwargs, 5, "training", False):
            raise BadRequest(
                "a batch norm uses the statistics of the current batch, so coalitions computed "
                "together would change each other's values. Call model.eval() first; a norm "
                "without running statistics has to be replaced."
            )
        if (
            func is F.scaled_dot_product_attention
            and _argument(args, kwargs, 4, "dropout_p", 0.0) > 0
        ):
            raise BadRequest(
                "attention drops weights at random: the model is in training mode. Call "
                "model.eval() first."
            )
        if (
            func is F.multi_head_attention_forward
            and kwargs.get("training", False)
            and _argument(args, kwargs, 10, "dropout_p", 0.0) > 0
        ):
            raise BadRequest(
                "attention drops weights at random: the model is in training mode. Call "
                "model.eval() first."
            )
        if func in _CELLS and _cell_drops(args):
            raise BadRequest(
                "a recurrent layer drops units at random: the model is in training mode. Call "
                "model.eval() first."
            )
        if func in _DRAWS or (func is F.rrelu and _argument(args, kwargs, 3, "training", False)):
            raise BadRequest(
                f"the model draws random numbers ({func.__name__}), so its values are no function "
                "of the gates. Call model.eval() first; where it draws in evaluation too, replace "
                "that layer."
            )
        return func(*args, **kwargs)


def _cell_drops(args: tuple) -> bool:
    """Whether a recurrent layer drops; packed sequences have one argument more in front."""
    packed = len(args) > 3 and isinstance(args[3], tuple | list)
    dropout, training = args[5 + packed : 7 + packed]
    return dropout > 0 and training


_CELLS = {torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu}
_DRAWS = {
    torch.rand, torch.rand_like, torch.randn, torch.randn_like, torch.randint, torch.randint_like,
    torch.randperm, torch.bernoulli, torch.normal, torch.multinomial, torch.poisson,
    Tensor.bernoulli, Tensor.bernoulli_, Tensor.uniform_, Tensor.normal_, Tensor.exponential_,
    Tensor.multinomial, Tensor.random_, Tensor.log_normal_,
}  # fmt: skip
_DROPOUTS = {
    F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout,
    torch.dropout
}  # fmt: skip


def _argument(args: tuple, kwargs: dict, place: int, name: str, default: Any) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, default)


def _check_site(model: nn.Module, convention: Convention, site: Site, x: Tensor) -> None:
    if not x.is_floating_point():
        raise BadRequest(
            f"the {site} holds {x.dtype}, which cannot be blended away; gate the embedding of the "
            "tokens instead: players.tokens(model, ids)"
        )
    if len(x) != convention.instances:
        raise BadRequest(
            f"the {site} has first axis {len(x)} for {convention.instances} instance(s): windows "
            "or positions are folded into the batch there, so rows cannot be told apart. "
            f"{_alternative(model, convention, site)}"
        )


def _check_owners(players: Players, site: Site, x: Tensor) -> tuple[int, ...]:
    """The shape of what is gated at a site, without the axis of instances."""
    owner, view = players.owner[site], players.views.get(site)
    if view is not None:
        x = view.analysis(x.to(torch.promote_types(x.dtype, torch.float32)))
    support = tuple(x.shape[1:])
    fits = owner.ndim <= len(support) and all(
        o in (1, s) for o, s in zip(owner.shape[::-1], support[::-1], strict=False)
    )
    if not fits:
        raise BadRequest(
            f"the players own a tensor of shape {tuple(owner.shape)} at {players.place(site)}, but "
            f"the model has {support} there. Build the players from the input you explain, or for "
            "this layer with input=."
        )
    return support


def _alternative(model: nn.Module, convention: Convention, site: Site) -> str:
    """The layer nearest in name whose output keeps one entry per instance."""
    good: list[str] = []
    handles = []
    for path, module in model.named_modules():

        def note(_: nn.Module, __: Any, output: Any, path: str = path) -> None:
            if (
                isinstance(output, Tensor)
                and output.ndim > 1
                and len(output) == convention.instances
                and output.is_floating_point()
            ):
                good.append(path)

        handles.append(module.register_forward_hook(note))
    try:
        with torch.no_grad():
            run(model, convention.rows(1))
    finally:
        for handle in handles:
            handle.remove()
    near = max(
        (p for p in good if p),
        key=lambda p: _shared(p, site.path),
        default=None,
    )
    return (
        f"The nearest layer that works is {near!r}."
        if near is not None
        else "Gate the model's input instead."
    )


def _shared(a: str, b: str) -> int:
    """How many letters two paths share from the start."""
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


def _notes(value: Value, values: Tensor) -> tuple[str, ...]:
    if isinstance(value, Probability) and bool((values > SATURATED).any()):
        return (
            f"the probability is {values.max():.4f}, saturated: differences look small; "
            f"Margin({value.target}) does not saturate",
        )
    if isinstance(value, BoxScore) and bool((values == 0).any()):
        over = "" if value.above is None else f" with an IoU above {value.above:g}"
        return (
            f"the score is 0 on the input as it is: no proposal of class {value.target} overlaps "
            f"the box{over}; look up the box and the class of a proposal of the model",
        )
    return ()
