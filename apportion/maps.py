"""Maps of a layer from credit of its channels: what a channel is worth, where it is active.

    weights = attribute(channels, LeaveOneOut())                 Ablation-CAM
    weights = attribute(pixels, seen_through(channels))          Score-CAM
    map = activation_map(weights, channels, cells(model, "layer", input=x))

`channels` and `pixels` are games about one input, with players of a layer and of the picture. Maps
that weigh gradients are rule tables instead: `backward.GRAD_CAM` and its kin.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from .attribution import Attribution
from .estimators import from_function
from .estimators._lift import FromFunction
from .games import Game, ModelGame
from .players import Players
from .players.base import PRESENT
from .taps import Site
from .types import BadRequest, Cost

AT_ONCE = 2**24  # elements of masks made at once


def activation_map(credit: Attribution, game: ModelGame, onto: Players) -> Attribution:
    """Credit of a layer's channels, spread over other players of the same layer.

        score_p = sum over elements e of p   weight_c(e) A_e,      A = the layer's output

    The sum over channels of weight x activation where `onto` are `cells`; elements of nobody's are
    left out. [zhou2016] Ablation-CAM's weights are leave-one-out of channels over the value with
    all of them, a factor that is left out here; signs are kept, and the ReLU that follows in the
    papers serves the picture. [desai2020] Scores are in value x activation and add up to nothing.
    Errors are bounds: the sum of |A_e| x the weight's, as large as it gets if weights err together.
    """
    site, own = _one_site(credit.players)
    if site not in onto.owner:
        raise BadRequest(
            f"credit of the {site} cannot be spread onto the {_one_site(onto)[0]}; give players of "
            f"the same layer: ap.players.cells(model, {site.path!r}, input=x)"
        )
    if site not in game.players.owner or game.players.names != credit.players.names:
        raise BadRequest(
            f"the game has {game.players}, the credit {credit.players}; give the game of the layer "
            "whose channels were credited"
        )
    activation = _activation(game, site)
    channel = own.expand(activation.shape).flatten()
    player = onto.owner[site].expand(activation.shape).flatten()
    counted = (channel != PRESENT) & (player != PRESENT)
    share = torch.zeros(credit.players.n, onto.n, dtype=torch.float64)
    size = share.clone()
    where = channel[counted] * onto.n + player[counted]
    each = activation.flatten().double()[counted]
    share.view(-1).index_add_(0, where, each)
    size.view(-1).index_add_(0, where, each.abs())
    scores = torch.einsum("...c,cp->...p", credit.scores.double(), share)
    error = credit.error
    if error is not None:
        error = torch.einsum("...c,cp->...p", error.double(), size)
    why = credit.provenance.error_note if error is None else "a bound: weights may err together"
    stamp = replace(
        credit.provenance,
        claims=(),
        error_note=why,
        notes=(*credit.provenance.notes, f"sum of credit x activation at the {site}"),
    )
    return Attribution(
        scores, onto, credit.none, credit.full, error, credit.cost, stamp, credit.freedom
    )


def seen_through(channels: ModelGame) -> FromFunction:
    """An estimator of what a picture is worth where one channel is active, for each channel.

        score_c = v(mask_c) - v(none),      mask_c = (up(A_c) - min) / (max - min)

    with up bilinear, to the picture's size. It is asked of a game whose players partition the
    picture: a player's gate is the mean of its pixels' mask, so pixels play the paper's game and
    patches a coarser one. Credit goes to the players of `channels`. A channel that is the same
    everywhere shows nothing. Score-CAM [wang2020] takes these scores as weights; its softmax over
    channels, which makes every weight positive, is left to the reader. One evaluation for each
    channel, and one.
    """
    site, _ = _one_site(channels.players)
    activation = _activation(channels, site)
    if activation.ndim != 3:
        raise BadRequest(
            f"the {site} has shape {tuple(activation.shape)} behind the batch; a mask of a picture "
            "needs (channel, height, width)"
        )
    players = channels.players

    def ask(game: Game, rng: Generator) -> Attribution:
        none = game.value(torch.zeros(1, game.players.n))
        values = []
        step = max(AT_ONCE // max(game.players.n, 1), 1)
        for part in activation.split(step):
            values.append(game.value(masks(part, game.players)))
        scores = (torch.cat(values).double() - none.double()).movedim(0, -1)
        return replace(
            Attribution.of(game, scores, none=none[0], error_note="nothing is sampled"),
            players=players,
        )

    return from_function(
        ask,
        lambda n: Cost(evaluations=players.n + 1),
        needs="soft",
        cites=("wang2020",),
        name="what a channel shows",
    )


def masks(activation: Tensor, players: Players) -> Tensor:
    """Each channel's map as soft gates of the players of a picture, (channel, player)."""
    _, owner = _one_site(players)
    if owner.ndim < 2 or owner.numel() != owner.shape[-1] * owner.shape[-2]:
        raise BadRequest(
            f"{players} do not partition a picture; show a map to pixels, patches or superpixels"
        )
    place = owner.reshape(-1)
    size = (int(owner.shape[-2]), int(owner.shape[-1]))
    kept = place != PRESENT
    count = torch.bincount(place[kept], minlength=players.n)
    gates = []
    for part in activation.double().split(max(AT_ONCE // len(place), 1)):
        up = interpolate(part[None], size, mode="bilinear", align_corners=False)[0].flatten(1)
        low, high = up.amin(1, keepdim=True), up.amax(1, keepdim=True)
        shown = torch.where(high > low, (up - low) / (high - low), 0.0)
        total = torch.zeros(len(part), players.n, dtype=torch.float64)
        gates.append(total.index_add_(1, place[kept], shown[:, kept]) / count)
    return torch.cat(gates).clamp(0, 1)


def _one_site(players: Players) -> tuple[Site, Tensor]:
    if len(players.owner) > 1:
        raise BadRequest(
            f"{players} live at {len(players.owner)} places; a map is of one layer: build players "
            "of that layer alone"
        )
    return next(iter(players.owner.items()))


def _activation(game: ModelGame, site: Site) -> Tensor:
    """The layer's output for the one input of the game."""
    clean = game.clean.activations[site]
    if len(clean) > 1:
        raise BadRequest(
            f"a map is of one input, and this game asks about {len(clean)}; build one game for each"
        )
    return clean[0].cpu()
