"""Where A and B of each layer lie in theta, and their products B A.

Uses only numpy, in double precision, since the server computes on vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Pair:
    """One adapted weight: the slices of theta that hold A [r, inputs] and B [outputs, r]."""

    layer: str
    a: slice
    b: slice
    rank: int
    shape: tuple[int, int]  # outputs, inputs


@dataclass(frozen=True)
class Factors:
    """All adapted weights, in the order in which their products are concatenated."""

    pairs: tuple[Pair, ...]

    @classmethod
    def of(cls, shapes: Mapping[str, Sequence[int]]) -> Factors:
        """Build from the shapes of theta's tensors by PEFT's names, in theta's order. Each lora_A needs its lora_B."""
        edges = [0, *accumulate(int(np.prod(shape)) for shape in shapes.values())]
        places = {name: slice(*edge) for name, edge in zip(shapes, pairwise(edges), strict=True)}
        pairs = []
        for name, place in places.items():
            layer, found, rest = name.partition(".lora_A.")
            if found:
                partner = f"{layer}.lora_B.{rest}"
                rank, inputs = shapes[name][0], int(np.prod(shapes[name][1:]))
                pairs.append(Pair(layer, place, places[partner], rank, (shapes[partner][0], inputs)))
        return cls(tuple(pairs))

    @property
    def size(self) -> int:
        """The total number of entries of all products."""
        return sum(int(np.prod(pair.shape)) for pair in self.pairs)

    def products(self, theta: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """The products B A of all layers, concatenated, float64 [size]."""
        wide = theta.astype(np.float64)
        return np.concatenate(
            [
                (wide[pair.b].reshape(-1, pair.rank) @ wide[pair.a].reshape(pair.rank, -1)).reshape(-1)
                for pair in self.pairs
            ]
        )

    def matrices(self, products: npt.NDArray[np.floating]) -> dict[str, npt.NDArray[np.floating]]:
        """Split concatenated products [size] by layer, each [outputs, inputs]."""
        edges = accumulate((int(np.prod(pair.shape)) for pair in self.pairs), initial=0)
        return {
            pair.layer: products[start:stop].reshape(pair.shape)
            for pair, (start, stop) in zip(self.pairs, pairwise(edges), strict=True)
        }


def factorised(matrix: npt.NDArray[np.floating]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """A [r, inputs] and B [outputs, r] of the least rank r (at least 1) with B A = matrix up to float32 rounding.

    Singular values below float32's resolution of the largest one are rounding errors and are dropped.
    """
    left, values, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    rank = max(1, int((values > values[0] * np.finfo(np.float32).eps).sum()))
    root = np.sqrt(values[:rank])
    return (root[:, None] * right[:rank]).astype(np.float32), (left[:, :rank] * root).astype(np.float32)
