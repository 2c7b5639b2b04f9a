"""What there is to run on a track, what of it is stored, and running the rest."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.fleet80.cases.case import FOLDER, Case, make_case
from benchmarks.fleet80.cases.tracks import Track
from benchmarks.fleet80.cases.variants import VARIANTS, Variant
from benchmarks.fleet80.run import RUNS, run_case
from benchmarks.fleet80.stored import Result, load
from benchmarks.fleet80.tuning import tuned_rate, tuning_cases
from fedcore.core.config.tables import Config
from fedcore.core.errors import ConfigError

FIGURES = Path("benchmarks/figures")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A track's plan; `overrides` make it another one, with results of its own."""

    track: Track
    overrides: tuple[str, ...] = ()
    say: Callable[[str], None]
    results: Path = FOLDER
    runs: Path = RUNS
    figures: Path = FIGURES

    def below(self, place: Path) -> "Plan":
        """Return the plan with everything it writes below `place`."""
        return replace(self, results=place / "results", runs=place / "runs", figures=place / "figures")

    def case(self, variant: Variant, seed: int) -> Case:
        """Return a case at its variant's tuned rate; at the track's middle rate where the search is not complete."""
        rate = tuned_rate(self.track, variant, self.results, self.overrides)
        return make_case(
            self.track,
            variant,
            seed=seed,
            rate=self._middle_rate if rate is None else rate,
            overrides=self.overrides,
        )

    def case_config(self) -> Config:
        """Return the configuration of the first variant; all variants of a track share model and fleet."""
        first = next(iter(VARIANTS.values()))
        return make_case(self.track, first, seed=0, rate=self._middle_rate, overrides=self.overrides).config

    def run(self, variant: Variant, seed: int) -> Result:
        """Run a variant at one seed, unless its result is stored."""
        if tuned_rate(self.track, variant, self.results, self.overrides) is None:
            self.say(f"{variant.name}: its learning rate is not tuned, {self._middle_rate:g} stands in for it")
        return self._run(self.case(variant, seed))

    def tune(self, variant: Variant) -> None:
        """Run what is missing of a variant's search and report the chosen rate."""
        for case in tuning_cases(self.track, variant, self.overrides):
            self._run(case)
        self.say(f"{variant.name}: learning rate {tuned_rate(self.track, variant, self.results, self.overrides):g}")

    def run_missing(self) -> None:
        """Run everything that is missing, each variant's search before its runs; unknown variants are reported."""
        for variant in self._variants():
            why = self.unknown(variant)
            if why:
                self.say(f"{variant.name}: left out: {why}")
                continue
            self.tune(variant)
            for seed in variant.seeds:
                self.run(variant, seed)

    def tell(self) -> None:
        """Say of every variant what is done and what is missing."""
        for variant in self._variants():
            why = self.unknown(variant)
            if why:
                self.say(f"{variant.name:24} not in this version: {why}")
                continue
            rate = tuned_rate(self.track, variant, self.results, self.overrides)
            seeds = " ".join(f"{seed}:{'done' if done else 'missing'}" for seed, done in self._seeds(variant))
            self.say(f"{variant.name:24} rate {'missing' if rate is None else f'{rate:g}':8} seeds {seeds}")

    def unknown(self, variant: Variant) -> str:
        """Return why this version cannot run a variant, empty where it can."""
        try:
            make_case(self.track, variant, seed=0, rate=self._middle_rate, overrides=self.overrides)
        except ConfigError as error:
            return str(error)
        return ""

    @property
    def _middle_rate(self) -> float:
        return self.track.rates[len(self.track.rates) // 2]

    def _variants(self) -> Iterator[Variant]:
        yield from (VARIANTS[name] for name in self.track.variants or VARIANTS)

    def _seeds(self, variant: Variant) -> Iterator[tuple[int, bool]]:
        for seed in variant.seeds:
            yield seed, self.case(variant, seed).path(self.results).is_file()

    def _run(self, case: Case) -> Result:
        stored = load(case, self.results)
        if stored is not None:
            self.say(f"{case.name}: stored")
            return stored
        self.say(f"{case.name}: running")
        return run_case(case, self.say, base=self.results, runs=self.runs)
