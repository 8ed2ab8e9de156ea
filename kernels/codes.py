"""What a latent code is: a table of the kinds of codes, which the kernels and the trainer read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

# A learned sigma is exp(2 tanh(s / 2)): it follows exp(s) near s = 0 and stays in (0.135, 7.39).
# Without a lower bound the Gaussian NLL has no minimum (the known cause of runaway losses), and a
# hard clamp would leave an s that has drifted outside without a gradient to come back.
LOG_SIGMA_BOUND = 2.0

HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)

# The tests cover no more, and latents has room for no more (native/codes.h).
MAX_NOISE, MAX_CODES, MAX_CATEGORIES = 4096, 64, 1024


@dataclass(frozen=True)
class Kind:
    """A kind of code: a row of ``KINDS``.

    The mathematics is elsewhere: how a code is drawn in kernels/latents/, and its NLL under Q in
    kernels/mi_loss/.

    Attributes:
        name: in ``Code.kind`` and in the generator's file.
        spelling: what ``--codes`` calls it.
        number: what the kernels call it, 1 or more (0 is no code); native/codes.h has the same.
        discrete: lambda_disc weighs it, not lambda_cont.
        has_categories: it takes a number of categories K, is one-hot in G's input, and Q gives it
            K logits.
        can_learn_sigma: its posterior is normal; sigma is 1, or comes from Q.
        random_words: 1, or 2 for a pair, which begins in an even column.
        prior: in words, with {K} for the number of categories.
        entropy: of the prior for K categories, in nats (differential for a continuous kind).
    """

    name: str
    spelling: str
    number: int
    prior: str
    entropy: Callable[[int], float]
    discrete: bool = False
    has_categories: bool = False
    can_learn_sigma: bool = False
    random_words: int = 1


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "categorical",
            spelling="cat",
            number=1,
            prior="Cat({K}), equal probabilities",
            entropy=math.log,
            discrete=True,
            has_categories=True,
        ),
        Kind(
            "uniform",
            spelling="uni",
            number=2,
            prior="Unif(-1, 1)",
            entropy=lambda _: math.log(2.0),
            can_learn_sigma=True,
        ),
        Kind(
            "gaussian",
            spelling="gauss",
            number=3,
            prior="N(0, 1)",
            entropy=lambda _: 0.5 + HALF_LOG_TWO_PI,
            can_learn_sigma=True,
            random_words=2,
        ),
        Kind(
            "bernoulli",
            spelling="bern",
            number=4,
            prior="Bernoulli(1/2)",
            entropy=lambda _: math.log(2.0),
            discrete=True,
        ),
    )
}


@dataclass(frozen=True)
class Code:
    """One latent code: its prior, and the form of its posterior Q(c|x).

    The priors are those of ``KINDS``. The posteriors are a softmax over K logits for categorical
    codes; N(mean, sigma^2) for uniform and Gaussian ones, with sigma = 1 (``std="fixed"``) or from
    the network (``std="learned"``); a sigmoid of one logit for Bernoulli ones. (Paper, section 5
    and appendix C.)

    Attributes:
        kind: a name in ``KINDS``.
        categories: K, of a kind that has categories; otherwise 0.
        std: of a kind that can learn sigma.
        regularized: False if the code is sampled and fed to G but is no part of L_I.

    Raises:
        ValueError: a kind is unknown, or something else doesn't fit it.
    """

    kind: str
    categories: int = 0
    std: Literal["fixed", "learned"] = "fixed"
    regularized: bool = True

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"Code: kind={self.kind!r}; {', '.join(KINDS)} work")
        if self.has_categories != (self.categories > 0):
            works = "1 or more work" if self.has_categories else "it has none, and 0 works"
            raise ValueError(f"Code: {self.kind} with categories={self.categories}; {works}")
        stds = ("fixed", "learned") if self.row.can_learn_sigma else ("fixed",)
        if self.std not in stds:
            works = " and ".join(stds) + (" work" if len(stds) > 1 else " works")
            raise ValueError(f"Code: {self.kind} with std={self.std!r}; {works}")

    @property
    def row(self) -> Kind:
        """The row of the code's kind."""
        return KINDS[self.kind]

    @property
    def is_discrete(self) -> bool:
        """True where lambda_disc weighs the code, False where lambda_cont does."""
        return self.row.discrete

    @property
    def has_categories(self) -> bool:
        """True where the code is one of K categories: one-hot for G, K logits from Q."""
        return self.row.has_categories

    @property
    def choices(self) -> int:
        """How many values a discrete code takes, from 0 on: K, or 0 and 1."""
        return self.categories if self.has_categories else 2

    @property
    def input_width(self) -> int:
        """Numbers that the code takes in G's input: K (one-hot), otherwise 1."""
        return self.categories if self.has_categories else 1

    @property
    def q_width(self) -> int:
        """Numbers that Q puts out for the code: K logits, one logit, mean, or (mean, s)."""
        if not self.regularized:
            return 0
        if self.has_categories:
            return self.categories
        return 2 if self.row.can_learn_sigma and self.std == "learned" else 1

    @property
    def prior(self) -> str:
        """The prior in words."""
        return self.row.prior.format(K=self.categories)

    @property
    def entropy(self) -> float:
        """H(c) of the prior in nats (differential for the continuous kinds)."""
        return self.row.entropy(self.categories)

    @property
    def best_mi(self) -> float:
        """The best reachable L_I in nats: a perfect Q has it, or comes arbitrarily near.

        H(c) for a discrete code. A Gaussian posterior has a density, and no more than its peak:
        with sigma = 1 that leaves H(c) - 0.5 log 2 pi (below 0 for a uniform code), and with a
        learned sigma H(c) - 0.5 log 2 pi + LOG_SIGMA_BOUND.
        """
        if self.is_discrete:
            return self.entropy
        smallest_log_sigma = -LOG_SIGMA_BOUND if self.std == "learned" else 0.0
        return self.entropy - HALF_LOG_TWO_PI - smallest_log_sigma


def check_codes(op: str, codes: Sequence[Code]) -> None:
    """Every one is a code, and no letter of what ``--codes`` takes, say.

    Args:
        op: the public function's name, for the message.
        codes: as the op was given them.

    Raises:
        ValueError: one isn't.
    """
    for i, code in enumerate(codes):
        if not isinstance(code, Code):
            raise ValueError(
                f"{op}: codes[{i}] is {code!r}; a Code works, such as Code('categorical', 10), "
                "and parse_codes makes them of a text"
            )
