"""A model as a function of its parameters, and its parameters as one vector."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..types import BadRequest
from ..values import output_tensor
from .data import Inputs
from .optim import Params


@dataclass(frozen=True, eq=False)
class Net:
    """An unmodified module called with parameters from outside; its own tensors stay as they are.

    Parameters with requires_grad are the free ones; the rest and the buffers are held fixed. With
    `whole` every floating number of the state counts as free: what a training may have changed.
    """

    module: nn.Module
    whole: bool = False

    @property
    def held(self) -> dict[str, Tensor]:
        """The free tensors; those shared by two modules are counted once."""
        free: dict[str, Tensor] = {
            name: p for name, p in self.module.named_parameters() if p.requires_grad
        }
        if not self.whole:
            return free
        state = [*self.module.named_parameters(), *self.module.named_buffers()]
        return {name: x for name, x in state if x.is_floating_point()}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the free tensors, in order."""
        return tuple(self.held)

    @property
    def own(self) -> dict[str, Tensor]:
        """The module's own free parameters, detached copies."""
        return {name: p.detach().clone() for name, p in self.held.items()}

    @property
    def size(self) -> int:
        """How many free parameters there are."""
        return sum(p.numel() for p in self.held.values())

    def __call__(self, params: Params, input: Inputs) -> Tensor:
        """The tensor of outputs; of an output with `.logits` those."""
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
            if isinstance(input, Mapping):
                raw = functional_call(self.module, dict(params), (), dict(input))
            else:
                raw = functional_call(self.module, dict(params), (input,))
        return output_tensor(raw, "a training")

    def with_params(self, params: Params) -> nn.Module:
        """A copy of the module that holds these parameters, in evaluation mode."""
        model = copy.deepcopy(self.module)
        with torch.no_grad():
            for name, p in model.named_parameters():
                if name in params:
                    p.copy_(params[name])
        return model.eval()

    def flat(self, params: Params) -> Float[Tensor, "*row p"]:
        """Named tensors as one vector, or several stacked ones as rows."""
        own = self.held
        lead = {k: params[k].shape[: params[k].ndim - own[k].ndim] for k in self.names}
        return torch.cat([params[k].reshape(*lead[k], own[k].numel()) for k in self.names], -1)

    def named(self, vector: Float[Tensor, "*row p"]) -> dict[str, Tensor]:
        """The inverse of `flat`."""
        own = self.held
        parts = vector.split([own[k].numel() for k in self.names], -1)
        return {
            k: part.reshape((*vector.shape[:-1], *own[k].shape))
            for k, part in zip(self.names, parts, strict=True)
        }


def repeatable(module: nn.Module) -> nn.Module:
    """The module, if two passes over the same rows give the same numbers and no state changes."""
    for name, part in module.named_modules():
        noisy = isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0
        counting = isinstance(part, nn.modules.batchnorm._BatchNorm) or (
            isinstance(part, nn.modules.batchnorm._NormBase) and part.track_running_stats
        )
        if part.training and (noisy or counting):
            what = "draws at random" if noisy else "mixes the rows of a batch and keeps statistics"
            raise BadRequest(
                f"{name or 'the model'} is a {type(part).__name__}, which {what} while training: "
                "such a run cannot be replayed row by row. Set its p to 0, use GroupNorm or "
                f"LayerNorm, or freeze it: model.get_submodule({name!r}).eval()"
            )
    if not any(p.requires_grad for p in module.parameters()):
        raise BadRequest("the model has no parameter with requires_grad=True; nothing is trained")
    return module
