"""Whatever is wrong is told in a line or two that name it and the remedy, before any process is started."""

import socket
from pathlib import Path

import pytest

from tests.cli.conftest import ROWS, Fedcore, Said

SETTINGS = {  # --set of a fleet -> parts of its error
    "run.round=3": ("cfg.toml: unknown config key run.round; did you mean run.rounds?",),
    "stratgy.name=x": ("unknown config key stratgy; did you mean strategy?",),
    "run.rounds=many": ("run.rounds: expected a whole number, got 'many'",),
    "run.name=A b": ("run.name 'A b': expected 1-63 characters of a-z, 0-9 and '-'",),
    "strategy.ranks=[0, 4]": ("strategy.ranks must be at least 1", "got 0"),
    "strategy.target_sparsity=1.2": ("strategy.target_sparsity must be in [0, 1), got 1.2",),
    "strategy.name=fedsgd": ("strategy.name: expected one of fedspine, fedavg-lora", "got 'fedsgd'"),
    "strategy.bandit=ucb": ("strategy.bandit: expected one of s-ucb", "got 'ucb'"),
    "strategy.aggregator=median": ("strategy.aggregator: expected one of factor-mean", "; got 'median'"),
    "training.codec=zip": ("training.codec: expected parts joined by '+'", "got 'zip'"),
    "training.importance=luck": ("training.importance: expected one of lora-taylor, taylor", "got 'luck'"),
    'training.targets=["w"]': ("training.targets: expected some of", "got w"),
    "model.path=t5": ("cannot prune a model of type 't5'; expected one of: bert, roberta",),
    "model.path=/nowhere/model": ("/nowhere/model: no such file or folder; check [model]",),
    "model.path=rows.csv": ("rows.csv",),
    "model.path=fetch:minilmm": ("nothing to fetch under the name 'minilmm'; did you mean minilm?",),
    "model.path=fetch:movies": ("fetch:movies is a data, expected model: one of minilm, smollm2",),
    "model.max_length=9": ("model.max_length is 9, but this model reads at most 8 tokens",),
    "model.head=last": ("head 'last' does not fit a model of type 'bert'; use auto, mean or stock",),
    "data.train=none.csv": ("none.csv: no such file or folder; check [data]",),
    "data.train=cfg.toml": ("cfg.toml: cannot read .toml; expected .csv, .tsv, .jsonl, .ndjson, .parquet",),
    "data.label=lable": ("rows.csv: no column 'lable'; did you mean 'label'? columns: text, label",),
    "data.text=review": ("rows.csv: no column 'review'; columns: text, label",),
    'data.text=["a", "b", "c"]': ("data.text: expected one column or a pair, got 3 columns",),
    'data.labels=["pos", "good"]': ("20 rows outside the agreed labels [pos, good]: 'neg' (20 rows)", "add the labels"),
    "data.test_fraction=0.0": ("no row is held back",),
    "data.shards=2": ("data.shards is 2, fewer than the 3 devices; raise it or use 0",),
    "fleet.class.agx.count=50": ("training rows are too few for 51 devices", "more rows"),
    "fleet.class.agx.slowdown=0.5": ("fleet.class agx: slowdown must be at least 1, got 0.5",),
    "fleet.class.orin.count=1": ("no device class 'orin'; the file has: agx, tx2",),
    "fleet.class.tx2.memory_mb=0.001": (
        "device tx2-0 of class tx2: training needs",
        "the device allows",
        "raise memory_mb",
        "2 of 3 devices would be left, coordinator.min_devices=3",
    ),
    "coordinator.min_devices=4": ("coordinator.min_devices is 4", "make 3 device(s)"),
    "coordinator.listen=here": ("coordinator.listen: expected HOST:PORT, for example 0.0.0.0:8443, got",),
    "rounds=3": ("--set 'rounds=3': expected table.key=value",),
}


def assert_told(said: Said, parts: tuple[str, ...]) -> None:
    assert said.code == 1
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") <= 2
    for part in parts:
        assert part in said.err


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_fleet_refuses_a_setting_before_anything_is_started(place: Path, fedcore: Fedcore, setting: str) -> None:
    assert_told(fedcore("fleet", "cfg.toml", "--set", setting), SETTINGS[setting])
    assert not (place / "runs").exists()


@pytest.mark.parametrize(
    "setting",
    [
        "run.round=3",
        "strategy.name=fedsgd",
        "strategy.bandit=ucb",
        "strategy.aggregator=median",
        "training.codec=zip",
        "model.path=t5",
        "model.path=/nowhere/model",
        "model.max_length=9",
        "coordinator.listen=here",
    ],
)
def test_a_coordinator_refuses_it_before_it_listens(place: Path, fedcore: Fedcore, setting: str) -> None:
    said = fedcore("serve", "cfg.toml", "--insecure", "--set", setting)
    warning, _, error = said.err.partition("\n")
    assert warning.startswith("WARNING: --insecure")
    assert_told(Said(said.code, said.out, error), SETTINGS[setting])
    assert not (place / "runs").exists()


def test_a_coordinator_that_cannot_serve_metrics_begins_nothing(place: Path, fedcore: Fedcore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for wrong, told in (("here", "--metrics: expected HOST:PORT"), (address, f"cannot serve metrics on {address}")):
            said = fedcore("serve", "cfg.toml", "--insecure", "--metrics", wrong)
            assert said.code == 1 and told in said.err
    assert not (place / "runs").exists()


FILES = {  # content of a configuration file -> parts of the error
    "[run\nname = 1": ("not valid TOML",),
    "run = 3": ("run: expected a table, got 3",),
    "[fleet]\nclass = 3": ("fleet.class: expected [[fleet.class]] with double brackets",),
    "[[fleet.class]]\ncount = 2": ("fleet.class.name is missing",),
    "[[fleet.class]]\nname = 'Big One'": ("fleet.class name 'Big One': expected 1-63 characters",),
    "[[fleet.class]]\nname = 'a'\n[[fleet.class]]\nname = 'a'": ("fleet.class names must differ, got ['a', 'a']",),
    "[data]\ntrain = 'rows.csv'": ("a fleet needs devices: add [[fleet.class]] tables",),
}


@pytest.mark.parametrize("text", FILES)
def test_a_configuration_that_is_wrong_is_named(place: Path, fedcore: Fedcore, text: str) -> None:
    (place / "bad.toml").write_text(text)
    said = fedcore("fleet", "bad.toml")
    assert_told(said, FILES[text])
    if "needs devices" not in said.err:
        assert "bad.toml: " in said.err


WORDS = {  # command line -> parts of the error
    "fleet": ("give a configuration file, or --resume DIR", "examples/quickstart.toml"),
    "fleet none.toml": ("no configuration file none.toml", "examples/quickstart.toml"),
    "fleet .": ("cannot read .",),
    "fleet cfg.toml --run-dir model": ("model exists and is not empty; choose a new folder",),
    "fleet cfg.toml --run-dir rows.csv": ("rows.csv exists and is not empty",),
    "fleet cfg.toml --metrics here": ("--metrics: expected HOST:PORT, for example 127.0.0.1:9464, got 'here'",),
    "fleet cfg.toml --metrics 127.0.0.1:0": ("--metrics: expected HOST:PORT", "got '127.0.0.1:0'"),
    "fleet --resume model": ("model is not a run folder (no config.toml in it)",),
    "fleet cfg.toml --resume model": ("--resume goes on with the run's own configuration",),
    "fleet --resume model --set run.rounds=9": ("--resume goes on with the run's own configuration",),
    "serve cfg.toml": ("give --certs FOLDER (made by fedcore certs), or --insecure",),
    "serve cfg.toml --certs nowhere": ("nowhere/coordinator.key", "fedcore certs"),
    "serve cfg.toml --certs nowhere --insecure": ("--certs and --insecure contradict each other",),
    "join here --name a --data rows.csv --insecure": ("coordinator address: expected HOST:PORT", "got 'here'"),
    "join a:1,b --name a --data rows.csv --insecure": ("coordinator address: expected HOST:PORT", "got 'b'"),
    "join localhost:1 --name A --data rows.csv --insecure": ("device name 'A': expected 1-63 characters",),
    "join localhost:1 --name a --class X_ --data rows.csv --insecure": ("device class 'X_': expected 1-63",),
    "join localhost:1 --name a --network 5G --data rows.csv --insecure": ("network class '5G': expected 1-63",),
    "join localhost:1 --name a --data rows.csv": ("give --certs FOLDER",),
    "join localhost:1 --name auto --role evaluator --data rows.csv --insecure": ("--name auto is for devices",),
    "certs tls --missing --force": ("--missing keeps certificates that exist",),
    "health here": ("here is not there: it has not joined yet, or is not running",),
    "health .": ("nothing in . says where it listens",),
    "join localhost:1 --name a --data rows.csv --certs nowhere": ("nowhere/a.key",),
    "edge --name e --upstream here --insecure": ("upstream: expected HOST:PORT", "got 'here'"),
    "edge --name e --upstream a:1,b:x --insecure": ("upstream: expected HOST:PORT", "got 'b:x'"),
    "edge --name e --upstream a:1 --listen 80 --insecure": ("listen: expected HOST:PORT", "got '80'"),
    "edge --name e --upstream a:1 --advertise a:0 --insecure": ("advertise: expected HOST:PORT", "got 'a:0'"),
    "edge --name e --upstream a:1 --metrics here --insecure": ("--metrics: expected HOST:PORT", "got 'here'"),
    "edge --name E --upstream a:1 --insecure": ("edge name 'E': expected 1-63 characters",),
    "edge --name e --upstream a:1": ("give --certs FOLDER (made by fedcore certs), or --insecure",),
    "edge --name e --upstream a:1 --certs nowhere": ("nowhere/e.key", "fedcore certs"),
    "show nowhere": ("nowhere is not a run folder",),
    "show nowhere --json": ("nowhere is not a run folder",),
    "export nowhere --class a --out x": ("nowhere is not a run folder",),
    "export nowhere --out x": ("give either --class NAME or --sparsity S",),
    "export nowhere --class a --sparsity 0.5 --out x": ("give either --class NAME or --sparsity S",),
    "export nowhere --class a --out model": ("model exists; choose a new folder",),
    "fetch minilmm": ("nothing to fetch under the name 'minilmm'; did you mean minilm? known: minilm",),
    "certs rows.csv": ("rows.csv: cannot be made",),
}


@pytest.mark.parametrize("words", WORDS)
def test_a_command_line_that_cannot_be_is_named(place: Path, fedcore: Fedcore, words: str) -> None:
    assert_told(fedcore(*words.split()), WORDS[words])


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--host", "bad_name!"), "host 'bad_name!': expected a DNS name or an IP address"),
        (("--device", "Cam"), "certificate name 'Cam': expected 1-63 characters"),
    ],
)
def test_certificates_with_bad_names_are_not_issued(
    place: Path, fedcore: Fedcore, words: tuple[str, str], part: str
) -> None:
    said = fedcore("certs", "new", *words)
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert part in said.err


JOINS = {  # options of a join -> parts of the error; told before anybody is called
    "--shard 7/6": ("--shard '7/6': expected INDEX/COUNT with 1 <= INDEX <= COUNT",),
    "--shard 0/6": ("--shard '0/6'",),
    "--shard six": ("--shard 'six'", "for example 3/6, or auto"),
    "--shard 1/41 --partition iid": ("40 rows cannot fill 41 shards",),
    "--data none.jsonl": ("none.jsonl: no such file or folder",),
    "--data rows.parquet --label kind": ("rows.parquet: no column 'kind'; columns: text, label",),
    "--data rows.jsonl --text words": ("rows.jsonl: row 1: no column 'words'; columns: text, label",),
    "--text a --text b --text c": ("expected one text column, or two for pair tasks, got 3",),
    "--model /nowhere/model": ("/nowhere/model: no such file or folder",),
    "--slowdown 0.5": ("slowdown must be a number of at least 1, got 0.5",),
    "--memory-mb -1": ("expected MiB of at least 0, auto",),
    "--test-fraction 1.5": ("the test fraction must be in [0, 1), got 1.5",),
    "--alpha 0": ("alpha must be above 0",),
    "--role evaluator": ("no row is held back; name a",),
}


@pytest.mark.parametrize("options", JOINS)
def test_a_join_tells_what_is_wrong_before_it_calls_anybody(place: Path, fedcore: Fedcore, options: str) -> None:
    words = options.split()
    if "--alpha" in words:
        words += ["--shard", "1/2"]
    data = [] if "--data" in words else ["--data", "rows.csv"]
    said = fedcore("join", "localhost:1", "--name", "cam", "--insecure", "--reconnect-s", "0", *data, *words)
    error = said.err.removeprefix("WARNING: --insecure: no encryption, and anybody can join.\n")
    assert_told(Said(said.code, said.out, error), JOINS[options])


@pytest.mark.parametrize(
    "words",
    [
        "fly",
        "fleet cfg.toml --colour red",
        "join",
        "join localhost:1 --name a",
        "join localhost:1 --name a --data rows.csv --role boss",
        "join localhost:1 --name a --data rows.csv --partition sorted",
        "join localhost:1 --name a --data rows.csv --alpha much",
        "show",
        "export run",
        "certs",
    ],
)
def test_wrong_usage_is_exit_code_2(place: Path, fedcore: Fedcore, words: str) -> None:
    said = fedcore(*words.split())
    assert said.code == 2
    assert "Usage: fedcore" in said.err and "Traceback" not in said.err


def test_a_folder_that_cannot_be_written_is_named(place: Path, fedcore: Fedcore) -> None:
    said = fedcore("fleet", "cfg.toml", "--run-dir", "rows.csv/run")
    assert_told(said, ("rows.csv/run: Not a directory",))


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl", "rows.parquet"])
def test_every_format_is_read_as_far_as_its_label_column(place: Path, fedcore: Fedcore, name: str) -> None:
    said = fedcore("fleet", "cfg.toml", "--set", f"data.train={name}", "--set", "data.label=stars")
    assert_told(said, (name, "no column 'stars'", "columns: text, label"))
    said = fedcore("fleet", "cfg.toml", "--set", f"data.train={name}", "--set", 'data.labels=["neg", "x"]')
    assert_told(said, (f"{name}: 20 rows outside the agreed labels [neg, x]: 'pos' (20 rows)",))


def test_one_label_alone_is_no_task(place: Path, fedcore: Fedcore) -> None:
    (place / "same.csv").write_text("text,label\n" + "".join(f"{text},yes\n" for text, _ in ROWS))
    assert_told(fedcore("fleet", "cfg.toml", "--set", "data.train=same.csv"), ("only the label 'yes'", "at least two"))


def test_an_empty_file_and_a_missing_cell_are_named(place: Path, fedcore: Fedcore) -> None:
    (place / "empty.csv").touch()
    assert_told(fedcore("fleet", "cfg.toml", "--set", "data.train=empty.csv"), ("empty.csv: the file is empty",))
    (place / "hole.csv").write_text("text,label\ngood,pos\n,neg\n")
    said = fedcore("fleet", "cfg.toml", "--set", "data.train=hole.csv")
    assert_told(said, ("hole.csv: line 3: column 'text' is empty; fill it or drop the row",))


def test_doubtful_labels_are_told_before_anything_begins(place: Path, fedcore: Fedcore) -> None:
    rows = "".join(f"text {number},{('Neg', 'neg', 'pos')[number % 3]}\n" for number in range(30))
    (place / "doubt.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    said = fedcore("fleet", "cfg.toml", "--set", "data.train=doubt.csv", "--run-dir", "rows.csv")
    assert said.err.startswith("warning: labels 'Neg' (10 rows) and 'neg' (10 rows) differ in spelling alone")
    assert "error: rows.csv exists" in said.err
