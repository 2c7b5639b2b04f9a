"""The fleet's label counts, kept up to date, are those of counting everybody again."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.contract.profile import DeviceProfile
from fedcore.server.aggregate.label_census import LabelCensus

LABELS = ("a", "b", "c")
COUNTS = st.dictionaries(st.sampled_from(LABELS), st.integers(0, 9)).map(lambda held: tuple(sorted(held.items())))


@given(st.lists(st.dictionaries(st.sampled_from(["x", "y", "z"]), COUNTS), max_size=8))
def test_it_counts_whoever_is_there(fleets: list[dict[str, tuple[tuple[str, int], ...]]]) -> None:
    census = LabelCensus()
    profiles: dict[str, DeviceProfile] = {}
    for fleet in fleets:
        profiles = {
            name: profiles[name]
            if name in profiles and profiles[name].label_counts == held
            else DeviceProfile(name=name, device_class="k", num_examples=1, label_counts=held)
            for name, held in fleet.items()
        }
        plain: Counter[str] = Counter()
        for held in fleet.values():
            plain.update(dict(held))
        assert census.rows(profiles, LABELS) == tuple(plain[label] for label in LABELS)
