"""What a latent code is: the vocabulary that the kernels and the trainer share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["categorical", "uniform", "gaussian", "bernoulli"]

# A learned sigma is exp(2 tanh(s / 2)): it follows exp(s) near s = 0 and stays in (0.135, 7.39).
# Without a lower bound the Gaussian NLL has no minimum (the known cause of runaway losses), and a
# hard clamp would leave an s that has drifted outside without a gradient to come back.
LOG_SIGMA_BOUND = 2.0

HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


@dataclass(frozen=True)
class Code:
    """One latent code: its prior, and the form of its posterior Q(c|x).

    Priors: Cat(K) with equal probabilities, Unif(-1, 1), N(0, 1), Bernoulli(1/2). Posteriors:
    softmax over K logits; N(mean, sigma^2) for uniform and Gaussian codes, with sigma = 1
    (``std="fixed"``) or from the network (``std="learned"``); a sigmoid of one logit.
    (Paper, section 5 and appendix C.)
    """

    kind: Kind
    categories: int = 0  # K, categorical codes only
    std: Literal["fixed", "learned"] = "fixed"  # uniform and Gaussian codes only
    regularized: bool = True  # False: sampled and fed to G, but no part of L_I

    @property
    def is_discrete(self) -> bool:
        """True where lambda_disc weighs the code, False where lambda_cont does."""
        return self.kind in ("categorical", "bernoulli")

    @property
    def input_width(self) -> int:
        """Numbers that the code takes in G's input: K (one-hot), otherwise 1."""
        return self.categories if self.kind == "categorical" else 1

    @property
    def q_width(self) -> int:
        """Numbers that Q puts out for the code: K logits, one logit, mean, or (mean, s)."""
        if not self.regularized:
            return 0
        if self.kind == "categorical":
            return self.categories
        return 2 if not self.is_discrete and self.std == "learned" else 1

    @property
    def entropy(self) -> float:
        """H(c) of the prior in nats (differential for the continuous kinds)."""
        if self.kind == "categorical":
            return math.log(self.categories)
        if self.kind == "gaussian":
            return 0.5 + HALF_LOG_TWO_PI
        return math.log(2.0)  # Unif(-1, 1) and Bernoulli(1/2)

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
