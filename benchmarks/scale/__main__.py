"""What a million devices would need: python -m benchmarks.scale [--print]

Computes the tables of docs/concepts/scale.md from benchmarks/results/*.json and writes them into the page; --print only
shows them. Nothing is measured here.
"""

import argparse

from benchmarks.data_plane.processes import MeasurementFailed
from benchmarks.report import RESULTS
from benchmarks.scale.costs import read_costs
from benchmarks.scale.page import PAGE, tables, with_tables


def main() -> None:
    """Write the page's tables, or print them."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.scale", description="What a million devices would need.")
    made.add_argument("--print", action="store_true", help="show the tables and leave the page as it is")
    arguments = made.parse_args()
    try:
        found = tables(read_costs(RESULTS))
        if arguments.print:
            print("\n\n".join(f"{name}\n{table}" for name, table in found.items()))
            return
        PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
        print(f"wrote {PAGE}")
    except (MeasurementFailed, OSError) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
