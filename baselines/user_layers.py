"""The two networks of USER: a transformer that reads out one intent, and the network that compares it with items."""

import math

import torch
from torch import Tensor, nn

from baselines.joint_layers import perceptron
from synergen.model.dropout import Dropout


class IntentTransformer(nn.Module):
    """A transformer over the events of a request and its intent token, of which the intent's output is wanted.

    In one layer nothing but the intent token needs to read. Below it events read those of earlier requests and
    themselves, so that all requests of a sequence share their states.
    """

    def __init__(self, layers: int, width: int, heads: int, ffn_width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(width, heads, ffn_width, dropout) for _ in range(layers))

    def forward(self, intents: Tensor, events: Tensor, visible: Tensor, earlier: Tensor) -> Tensor:
        """(B, E, D): the outputs at the intent tokens.

        Args:
            intents: (B, E, D) tokens of E requests.
            events: (B, T, D) tokens.
            visible: (B, E, T) bool: the events that each request reads.
            earlier: (B, T, T) bool: those that each event may read.
        """
        for layer in self.layers[:-1]:
            intents, events = layer(intents, events, visible), layer(events, events, earlier)
        return self.layers[-1](intents, events, visible)


class Layer(nn.Module):
    """Attention and feed-forward network, each followed by LayerNorm, for tokens that read events and themselves."""

    def __init__(self, width: int, heads: int, ffn_width: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.network = perceptron([width, ffn_width, width], dropout, last_activation=False)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.dropout = Dropout(dropout)

    def forward(self, readers: Tensor, events: Tensor, visible: Tensor) -> Tensor:
        """(B, E, D) of readers (B, E, D), events (B, T, D) and what each reader sees of them (B, E, T)."""
        query = self._split(self.query(readers))[0]  # (B, H, E, D / H)
        key, value = self._split(self.key_value(events))  # (B, H, T, D / H)
        own_key, own_value = self._split(self.key_value(readers))  # (B, H, E, D / H)
        others = (query @ key.mT).masked_fill(~visible[:, None], -torch.inf)  # (B, H, E, T)
        own = (query * own_key).sum(-1, keepdim=True)  # (B, H, E, 1): so no softmax is over nothing
        weights = self.dropout((torch.cat([others, own], dim=-1) / math.sqrt(query.shape[-1])).softmax(-1))
        mixed = weights[..., :-1] @ value + weights[..., -1:] * own_value
        states = self.norms[0](readers + self.dropout(self.output(mixed.transpose(1, 2).flatten(2))))
        return self.norms[1](states + self.dropout(self.network(states)))

    def _split(self, x: Tensor) -> list[Tensor]:
        """Parts (B, H, N, D / H) of x (B, N, parts · D)."""
        parts = x.split(self.query.out_features, dim=-1)
        return [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts]


class Comparison(nn.Module):
    """MLP([r; c; r₁ ⊙ c; …; r_n ⊙ c]) + Σ wᵢ rᵢ · c of a request's n vectors r and an item c.

    The inner products are the paper's features, and spare the network to learn them. The network's first layer is a sum
    of linear maps, so that a request is mapped once for all of its candidates.

    Args:
        hidden: widths of the hidden layers.
    """

    def __init__(self, vectors: int, width: int, hidden: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.of_request = nn.Linear(vectors * width, hidden[0])
        self.of_item = nn.Linear(width, hidden[0], bias=False)
        self.of_products = nn.Linear(vectors * width, hidden[0], bias=False)
        self.weights = nn.Parameter(torch.ones(vectors))
        self.rest = nn.Sequential(nn.ReLU(), Dropout(dropout), perceptron([*hidden, 1], dropout, last_activation=False))

    def forward(self, requests: Tensor, items: Tensor) -> Tensor:
        """Scores (N, C) of requests (N, n, D) and items (C, D) or (N, C, D)."""
        products = requests[:, None] * items[..., None, :]  # (N, C, n, D)
        of_request = self.of_request(requests.flatten(1))[:, None]  # (N, 1, F)
        first = of_request + self.of_item(items) + self.of_products(products.flatten(2))  # (N, C, F)
        return self.rest(first).squeeze(-1) + products.sum(-1) @ self.weights
