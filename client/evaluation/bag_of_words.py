"""TF-IDF with logistic regression: what single words and pairs of words alone tell about a label.

The floor that every federated result is compared with. It is made with torch, which every evaluator has: scikit-learn
would add some 200 MB of scikit-learn and SciPy to every device for this one figure. Weights and loss are those of
scikit-learn's TfidfVectorizer (smooth idf, unit length) and LogisticRegression (C = 1); a test compares both.
"""

import itertools
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fedcore.core.data.metrics import Floats

MAX_WORDS = 128  # of a row that count: bounds time and memory
MAX_FEATURES = 50_000
MAX_WEIGHTS = 4_000_000  # features times labels
STEPS = 40  # of L-BFGS; it stops earlier where the loss stays
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"  # Thai, Lao, Burmese, Khmer, kana, Han
_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")  # a character stands for a word where no spaces part words

Texts = Sequence[tuple[str, ...]]
Ids = NDArray[np.int64]


def terms(row: tuple[str, ...]) -> Iterator[str]:
    """Yield the words of a row and its pairs of neighbouring words, without case; pairs cross no text's end."""
    left = MAX_WORDS
    for text in row:
        words = [match[0] for match, _ in zip(_WORD.finditer(text.casefold()), range(left), strict=False)]
        left -= len(words)
        yield from words
        yield from (f"{first} {second}" for first, second in itertools.pairwise(words))


@dataclass(frozen=True, slots=True)
class BagOfWords:
    """A vocabulary with the inverse document frequency of every term, from the rows it was made of."""

    positions: dict[str, int]  # term -> column
    idf: NDArray[np.float32]  # (columns,)

    @staticmethod
    def of(texts: Texts, columns: int) -> "BagOfWords":
        """Count the terms of `texts` and keep the `columns` most frequent, ties by spelling; idf is smoothed."""
        frequency = Counter(term for row in texts for term in set(terms(row)))
        chosen = sorted(frequency, key=lambda term: (-frequency[term], term))[:columns]
        rows = np.array([frequency[term] for term in chosen], dtype=np.float64)
        idf = np.log((1 + len(texts)) / (1 + rows)) + 1
        return BagOfWords({term: column for column, term in enumerate(chosen)}, idf.astype(np.float32))

    def vectors(self, texts: Texts) -> torch.Tensor:
        """Return sparse TF-IDF rows of length 1, float32 (rows, columns); a row without a known term is zero."""
        begins, columns, values = [0], [np.empty(0, np.int64)], [np.empty(0, np.float32)]
        for row in texts:
            counts = Counter(self.positions[term] for term in terms(row) if term in self.positions)
            places = np.array(sorted(counts), dtype=np.int64)
            weights = np.array([counts[place] for place in places.tolist()], dtype=np.float32) * self.idf[places]
            columns.append(places)
            values.append(weights / max(float(np.linalg.norm(weights)), 1e-12))
            begins.append(begins[-1] + len(places))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # compressed rows are new in torch, it says once a process
            return torch.sparse_csr_tensor(
                torch.tensor(begins),
                torch.from_numpy(np.concatenate(columns)).clone(memory_format=torch.contiguous_format),
                torch.from_numpy(np.concatenate(values)),
                size=(len(texts), len(self.positions)),
                check_invariants=True,
            )


def predict_by_words(texts: Texts, labels: Ids, others: Texts, num_labels: int) -> Floats:
    """Learn from `texts` (rows,) with `labels` in [0, num_labels), return logits of `others` (rows, labels).

    Takes one thread: sums in another order would give equal runs on machines of other sizes another floor.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _predict(texts, labels, others, num_labels)
    finally:
        torch.set_num_threads(threads)


def _predict(texts: Texts, labels: Ids, others: Texts, num_labels: int) -> Floats:
    bag = BagOfWords.of(texts, min(MAX_FEATURES, max(1, MAX_WEIGHTS // num_labels)))
    if not bag.positions:  # no row has a word: guess by the labels' shares
        shares = np.bincount(labels, minlength=num_labels) + 1e-9
        return np.tile(np.log(shares / shares.sum()), (len(others), 1))
    weights, bias = _fit(bag.vectors(texts), torch.from_numpy(labels), num_labels)
    logits: Floats = (bag.vectors(others) @ weights + bias).double().numpy()
    return logits


def _fit(rows: torch.Tensor, labels: torch.Tensor, num_labels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weights (columns, labels) and bias (labels,) that minimise mean cross-entropy + |weights|^2 / (2 rows)."""
    count, columns = rows.shape
    transposed = rows.to_sparse_coo().t().to_sparse_csr()  # type: ignore[no-untyped-call]
    weights = torch.zeros(columns, num_labels, requires_grad=True)
    bias = torch.zeros(num_labels, requires_grad=True)
    truth = torch.nn.functional.one_hot(labels, num_labels).float()
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=STEPS, history_size=8, line_search_fn="strong_wolfe")

    def closure() -> float:
        with torch.no_grad():
            logs = torch.log_softmax(rows @ weights + bias, dim=1)  # (rows, labels)
            error = (logs.exp() - truth) / count
            weights.grad = transposed @ error + weights / count
            bias.grad = error.sum(dim=0)
            return float(-(logs * truth).sum() / count + weights.square().sum() / (2 * count))

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach(), bias.detach()
