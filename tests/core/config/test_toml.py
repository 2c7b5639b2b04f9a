import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.config.keys import keys_of
from fedcore.core.config.tables import (
    TABLES,
    ClassConfig,
    Config,
    DataConfig,
    FleetConfig,
    ModelConfig,
    RunConfig,
    StrategyConfig,
    TrainingConfig,
)
from fedcore.core.config.toml import parse_config, to_toml
from fedcore.core.errors import ConfigError

QUICKSTART = Path(__file__).parents[3] / "examples" / "quickstart.toml"
WRITTEN = Path(__file__).parent / "written"  # by the writer of the first runs, before tables and writer were rebuilt


def test_no_text_gives_the_defaults() -> None:
    assert parse_config("") == Config()


def test_every_table_is_read() -> None:
    text = """
        [run]
        name = "x"
        [model]
        max_length = 8
        [data]
        text = ["a", "b"]
        labels = ["no", "yes"]
        [strategy]
        ranks = [2, 4]
        [training]
        learning_rate = 1
        [coordinator]
        quorum = 1.0
        [evaluation]
        rows_per_round = 0
        [fleet]
        edges = [1, 2]
        [[fleet.class]]
        name = "agx"
        memory_mb = 512
        [[fleet.class]]
        name = "nx"
        target_sparsity = 0.25
    """
    config = parse_config(text)
    assert config.run.name == "x" and config.model.max_length == 8
    assert config.data.text == ("a", "b") and config.data.labels == ("no", "yes")
    assert config.strategy.ranks == (2, 4)
    assert config.training.learning_rate == 1.0 and isinstance(config.training.learning_rate, float)
    assert config.coordinator.quorum == 1.0 and config.evaluation.rows_per_round == 0
    assert config.fleet.edges == (1, 2)
    assert config.classes == (ClassConfig(name="agx", memory_mb=512.0), ClassConfig(name="nx", target_sparsity=0.25))


def test_the_example_is_valid() -> None:
    config = parse_config(QUICKSTART.read_text())
    assert [(each.name, each.count) for each in config.classes] == [("agx", 2), ("nx", 2), ("tx2", 2)]


MISTAKES = [
    ("[run]\nround = 3", "unknown config key run.round; did you mean run.rounds?"),
    ("[runs]\nrounds = 3", "unknown config key runs; did you mean run?"),
    ("rounds = 3", "unknown config key rounds; did you mean run?"),
    ("[run]\nzzz = 3", "unknown config key run.zzz; known keys: name, seed, rounds"),
    ("[[fleet.clas]]\nname = 'a'", "unknown config key fleet.clas; did you mean fleet.class?"),
    (
        "[[fleet.class]]\nname = 'a'\nslow = 2",
        "unknown config key fleet.class.slow; did you mean fleet.class.slowdown?",
    ),
    ("[[fleet.class]]\ncount = 2", "fleet.class.name is missing: every [[fleet.class]] needs a name"),
    ("[fleet.class]\nname = 'a'", "fleet.class: expected [[fleet.class]] with double brackets"),
    ("[fleet]\nclass = ['a']", "fleet.class: expected a table, got 'a'"),
    ("[fleet]\nedge = [2]", "unknown config key fleet.edge; did you mean fleet.edges?"),
    ("[fleet]\nedges = 2", "fleet.edges: expected a list, got 2"),
    ("[fleet]\nedges = [true]", "fleet.edges: expected a whole number, got True"),
    ("fleet = 3", "fleet: expected [[fleet.class]] tables"),
    ("[[run]]\nseed = 1", "run: expected a table, got [{'seed': 1}]"),
    ("run = 5", "run: expected a table, got 5"),
    ("[run\n", "not valid TOML: "),
    ("[run]\nseed = 1\nseed = 2", "not valid TOML: "),
    ("[run]\nseed = " + "9" * 5000, "not valid TOML: "),
    ("[run]\nname = 7", "run.name: expected text in quotes, got 7"),
    ("[run]\nrounds = 2.0", "run.rounds: expected a whole number, got 2.0"),
    ("[run]\nrounds = true", "run.rounds: expected a whole number, got True"),
    ("[training]\nlearning_rate = 'x'", "training.learning_rate: expected a number or \"auto\", got 'x'"),
    ("[training]\nlearning_rate = true", 'training.learning_rate: expected a number or "auto", got True'),
    ("[training]\nlearning_rate = 1" + "0" * 400, 'training.learning_rate: expected a number or "auto", got 1000'),
    ("[training]\nlearning_rate = nan", "training.learning_rate must be above 0, got nan"),
    ("[training]\nkeep_optimizer = 1", "training.keep_optimizer: expected true or false, got 1"),
    ("[strategy]\nranks = 4", "strategy.ranks: expected a list, got 4"),
    ("[strategy]\nranks = ['4']", "strategy.ranks: expected a whole number, got '4'"),
    ("[strategy]\nranks = [0, 4]", "strategy.ranks must be at least 1"),
    ("[strategy]\ntarget_sparsity = 1.2", "strategy.target_sparsity must be in [0, 1), got 1.2"),
    ("[data]\ntext = 3", "data.text: expected text in quotes or a list, got 3"),
    (
        "[[fleet.class]]\nname = 'a'\ntarget_sparsity = 'x'",
        "fleet.class.target_sparsity: expected a number or \"auto\", got 'x'",
    ),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_a_mistake_is_named_with_its_remedy(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    assert str(caught.value).startswith(message)


OVERRIDES: list[tuple[str, str, str, Any]] = [
    ("run.rounds=5", "run", "rounds", 5),
    (" run.rounds = 5 ", "run", "rounds", 5),
    ("run.name=night-run", "run", "name", "night-run"),
    ("model.path=fetch:minilm", "model", "path", "fetch:minilm"),
    ("model.path= ~/my models/x ", "model", "path", "~/my models/x"),
    ('model.path="a=b"', "model", "path", "a=b"),
    ("model.path=a=b", "model", "path", "a=b"),
    ("data.test=", "data", "test", ""),
    ("strategy.ranks=[2, 4]", "strategy", "ranks", (2, 4)),
    ('data.labels=["a", "b"]', "data", "labels", ("a", "b")),
    ("data.text=body", "data", "text", "body"),
    ("training.learning_rate=1e-4", "training", "learning_rate", 1e-4),
    ("training.learning_rate=1", "training", "learning_rate", 1.0),
    ("fleet.edges=[2]", "fleet", "edges", (2,)),
    ("strategy.share_posterior=false", "strategy", "share_posterior", False),
]


@pytest.mark.parametrize(("override", "table", "key", "value"), OVERRIDES)
def test_an_override_replaces_one_key(override: str, table: str, key: str, value: Any) -> None:
    before = parse_config("")
    after = parse_config("", [override])
    assert getattr(getattr(after, table), key) == value
    assert after == replace(before, **{table: replace(getattr(before, table), **{key: value})})


def test_overrides_win_over_the_file_and_the_last_over_the_first() -> None:
    assert parse_config("[run]\nrounds = 2", ["run.rounds=3", "run.rounds=4"]).run.rounds == 4


def test_one_class_can_be_overridden_by_name() -> None:
    text = "[[fleet.class]]\nname = 'agx'\n[[fleet.class]]\nname = 'nx'\n"
    config = parse_config(text, ["fleet.class.nx.count=3", "fleet.class.nx.slowdown=2"])
    assert config.classes == (ClassConfig(name="agx"), ClassConfig(name="nx", count=3, slowdown=2.0))


def test_all_classes_can_be_overridden_at_once() -> None:
    config = parse_config("[[fleet.class]]\nname = 'agx'", ['fleet.class=[{name = "x", count = 2}]'])
    assert config.classes == (ClassConfig(name="x", count=2),)


BAD_OVERRIDES = [
    ("run.rounds", "--set 'run.rounds': expected table.key=value, for example run.rounds=5"),
    ("rounds=5", "--set 'rounds=5': expected table.key=value"),
    (".rounds=5", "--set '.rounds=5': expected table.key=value"),
    ("run.=5", "--set 'run.=5': expected table.key=value"),
    ("=5", "--set '=5': expected table.key=value"),
    ("", "--set '': expected table.key=value"),
    ("run.round=5", "unknown config key run.round; did you mean run.rounds?"),
    ("rum.rounds=5", "unknown config key rum; did you mean run?"),
    ("run.rounds.x=5", "unknown config key run.rounds; known keys: run, task, model"),
    ("run.rounds=many", "run.rounds: expected a whole number, got 'many'"),
    ("run.name=7", "run.name: expected text in quotes, got 7"),
    ("data.labels=[a, b]", "--set 'data.labels=[a, b]': not a TOML value; quote words in lists"),
    ('run.name="open', "--set 'run.name=\"open': not a TOML value"),
    ("fleet.class.tx2.count=2", "--set 'fleet.class.tx2.count=2': no device class 'tx2'; the file has: agx"),
    ("fleet.class.agx.cout=2", "unknown config key fleet.class.cout; did you mean fleet.class.count?"),
]


@pytest.mark.parametrize(("override", "message"), BAD_OVERRIDES)
def test_a_bad_override_is_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config("[[fleet.class]]\nname = 'agx'", [override])
    assert str(caught.value).startswith(message)


def test_edges_can_be_set_beside_classes() -> None:
    config = parse_config("[[fleet.class]]\nname = 'agx'\ncount = 4", ["fleet.edges=[2, 4]"])
    assert config.fleet.edges == (2, 4) and [each.count for each in config.classes] == [4]


def test_an_override_of_a_class_needs_classes() -> None:
    with pytest.raises(ConfigError, match="no device class 'a'; the file has: none"):
        parse_config("", ["fleet.class.a.count=2"])


def test_an_override_into_what_is_no_table_is_refused() -> None:
    with pytest.raises(ConfigError, match="run is not a table"):
        parse_config("run = 5", ["run.seed=1"])


def test_every_default_is_written_out() -> None:
    text = to_toml(Config(classes=(ClassConfig(name="a"),)))
    for table in TABLES:
        assert f"[{table}]\n" in text
    assert "rounds = 10\n" in text and "ranks = [4, 8, 16]\n" in text and 'path = "fetch:minilm"\n' in text
    assert "target_sparsity" not in text.partition("[[fleet.class]]")[2]  # none of its own


def test_defaults_are_written_as_before() -> None:
    assert to_toml(Config()) == (WRITTEN / "defaults.toml").read_text(encoding="utf-8")


def test_an_old_runs_configuration_is_read_and_written_again_byte_for_byte() -> None:
    text = (WRITTEN / "every_key.toml").read_text(encoding="utf-8")
    config = parse_config(text)
    assert to_toml(config) == text
    for name in TABLES:
        table = getattr(config, name)
        assert [key.name for key in keys_of(type(table)).values() if getattr(table, key.name) == key.default] == []
    assert [
        key.name for key in keys_of(ClassConfig).values() if getattr(config.classes[1], key.name) == key.default
    ] == []


def test_reading_a_configuration_needs_the_standard_library_alone() -> None:
    # What the interpreter loads by itself, for an editable installation say, is not the reader's doing.
    code = (
        "import sys; started = set(sys.modules); import fedcore.core.config.toml, fedcore.core.config.schema;"
        " print(*set(sys.modules) - started)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    names = {name.partition(".")[0] for name in done.stdout.split()}
    assert "fedcore" in names
    assert not names & {"http", "urllib", "socket", "asyncio", "logging", "numpy", "torch", "pydantic", "msgspec"}


WORDS = st.text(st.characters(codec="utf-8"), max_size=12)
NAMES = st.from_regex(r"[a-z0-9-]{1,63}", fullmatch=True)
POSITIVE = st.floats(min_value=1e-300, max_value=1e300)
SHARES = st.floats(min_value=0, max_value=1, exclude_max=True)
CLASSES = st.builds(
    ClassConfig,
    name=NAMES,
    count=st.integers(1, 9),
    slowdown=st.floats(min_value=1, max_value=1e9),
    memory_mb=st.floats(min_value=0, max_value=1e9),
    target_sparsity=st.none() | SHARES,
)
CONFIGS = st.builds(
    Config,
    run=st.builds(RunConfig, name=NAMES, seed=st.integers(0, 2**63 - 1), rounds=st.integers(1, 2**31 - 1)),
    model=st.builds(ModelConfig, path=WORDS, max_length=st.integers(2, 9999)),
    data=st.builds(
        DataConfig,
        train=WORDS,
        text=WORDS | st.tuples(WORDS) | st.tuples(WORDS, WORDS),
        labels=st.just(()) | st.lists(WORDS, min_size=2, max_size=4, unique=True).map(tuple),
        alpha=POSITIVE,
    ),
    strategy=st.builds(
        StrategyConfig,
        target_sparsity=SHARES,
        ranks=st.sets(st.integers(1, 999), min_size=1, max_size=4).map(lambda ranks: tuple(sorted(ranks))),
        share_posterior=st.booleans(),
    ),
    training=st.builds(TrainingConfig, learning_rate=POSITIVE, targets=st.lists(WORDS, max_size=3).map(tuple)),
    fleet=st.builds(FleetConfig, edges=st.sampled_from([(), (1,), (1, 1)])),
    classes=st.lists(CLASSES, max_size=3, unique_by=lambda each: each.name).map(tuple),
)


@given(CONFIGS)
@settings(max_examples=60)
def test_written_and_read_again_a_config_is_the_same(config: Config) -> None:
    assert parse_config(to_toml(config)) == config
