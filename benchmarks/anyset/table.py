"""The table of stored results: one line per cell without its seed, means over seeds."""

from collections import defaultdict
from collections.abc import Iterable
from statistics import mean

from rich.console import Console
from rich.table import Table

from benchmarks.anyset.run import Result

Key = tuple[str, str, str, str]


def print_table(results: Iterable[Result]) -> None:
    """Print accuracy of the exports (mean over classes), macro-F1, AUC, virtual time and wall time by cell."""
    by_key: dict[Key, list[Result]] = defaultdict(list)
    for result in results:
        by_key[result["set"], result["skew"], result["line"], " ".join(result["overrides"])].append(result)
    columns = ("set", "skew", "line", "overrides", "seeds", "rate", "accuracy", "macro-F1", "AUC", "virtual s", "s")
    table = Table(*columns)
    for key in sorted(by_key):
        found = by_key[key]
        figures = [f"{_mean(found, name):.3f}" for name in ("accuracy", "macro_f1", "auc")]
        rates = [result["learning_rate"] for result in found if "learning_rate" in result]
        rate = f"{mean(rates):.2g}" if rates else ""
        times = (f"{mean(result[name] for result in found):.0f}" for name in ("virtual_s", "seconds"))
        table.add_row(*key, str(len(found)), rate, *figures, *times)
    Console(width=180).print(table)


def _mean(results: Iterable[Result], name: str) -> float:
    values = [figures[name] for result in results for figures in result["classes"].values()]
    return mean(value for value in values if value is not None) if any(value is not None for value in values) else 0.0
