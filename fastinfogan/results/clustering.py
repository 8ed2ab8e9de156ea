"""Clustering: how the categories that Q sees in real images match their labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Clustering:
    """How the K categories of one code, as Q sees them in real images, match the L labels.

    Attributes:
        code: name of the code.
        contingency: (K, L), how many images have each category and label.
        label_names: (L,).
        hungarian: (K,), category -> label, each label at most once; None for no match.
        majority: (K,), category -> its most frequent label; None for a category without images.
        error_hungarian: share of images whose category isn't matched to their label.
        error_majority: the same for the majority.
        nmi: normalised mutual information (arithmetic mean of the entropies).
        ari: adjusted Rand index.
    """

    code: str
    contingency: tuple[tuple[int, ...], ...]
    label_names: tuple[str, ...]
    hungarian: tuple[int | None, ...]
    majority: tuple[int | None, ...]
    error_hungarian: float
    error_majority: float
    nmi: float
    ari: float

    @property
    def category_to_label(self) -> tuple[str | None, ...]:
        """The Hungarian match by name; None for a category without one."""
        return tuple(None if i is None else self.label_names[i] for i in self.hungarian)


def contingency_table(
    categories: np.ndarray, labels: np.ndarray, category_count: int, label_count: int
) -> np.ndarray:
    """Count images by category and label.

    Args:
        categories: integers (N,), 0 to ``category_count`` - 1.
        labels: integers (N,), 0 to ``label_count`` - 1.
        category_count: K.
        label_count: L.

    Returns:
        int64 (K, L).
    """
    cells = np.bincount(categories * label_count + labels, minlength=category_count * label_count)
    return cells.reshape(category_count, label_count)


def cluster(code: str, contingency: np.ndarray, label_names: tuple[str, ...]) -> Clustering:
    """Match categories to labels.

    Hungarian: the one-to-one matching with the most images in matched pairs (Kuhn 1955). With
    K != L some categories or labels stay without a partner, and their images are errors; a pair
    that shares no image is no match. Majority: each category takes its most frequent label, so
    labels may repeat; it never has more errors.

    Args:
        code: name of the code.
        contingency: (K, L) integers, at least one of them positive.
        label_names: (L,).
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    total = contingency.sum()
    hungarian: list[int | None] = [None] * len(contingency)
    for category, label in zip(*linear_sum_assignment(contingency, maximize=True), strict=True):
        if contingency[category, label] > 0:
            hungarian[category] = int(label)
    matched = sum(contingency[k, label] for k, label in enumerate(hungarian) if label is not None)
    rows, columns = (
        np.repeat(i.ravel(), contingency.ravel()) for i in np.indices(contingency.shape)
    )
    return Clustering(
        code=code,
        contingency=tuple(tuple(row) for row in contingency.tolist()),
        label_names=label_names,
        hungarian=tuple(hungarian),
        majority=tuple(int(row.argmax()) if row.any() else None for row in contingency),
        error_hungarian=float(1.0 - matched / total),
        error_majority=float(1.0 - contingency.max(axis=1).sum() / total),
        nmi=float(normalized_mutual_info_score(columns, rows)),
        ari=float(adjusted_rand_score(columns, rows)),
    )
