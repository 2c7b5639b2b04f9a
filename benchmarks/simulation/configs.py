"""A case as a configuration of ours: every device takes part in every round, one fixed arm, float32 on the wire."""

from pathlib import Path

from benchmarks.simulation import language
from benchmarks.simulation.task import Case
from fedcore.core.config.tables import Config
from fedcore.core.config.toml import parse_config
from fedcore.strategies.table import resolve_settings

DATA, MODEL = "fetch:movies", "fetch:minilm"
SMALL_CHUNK = 64  # virtual devices of the small task trained together: what their steps touch fits the cache


def config_of(case: Case, folder: Path) -> Config:
    """Return the configuration; `folder` holds a language task's rows.csv and test.csv."""
    small = case.task == "mlp"
    recipe = case.recipe
    text = f"""
[run]
name = "{case.task}"
rounds = {case.rounds}
[model]
path = "{MODEL}"
max_length = {language.MAX_LENGTH}
[data]
train = "{folder / "rows.csv"}"
test = "{folder / "test.csv"}"
partition = "iid"
[strategy]
name = "fedavg-lora"
ranks = [{1 if small else language.RANK}]
target_sparsity = 0.0
[training]
local_steps = {recipe.epochs}
batch_size = {recipe.batch_size}
learning_rate = {recipe.learning_rate}
final_lr_share = 1.0
weight_decay = {recipe.weight_decay}
lora_scale = {language.SCALE}
targets = {'["q"]' if small else "[]"}
label_skew = "ignore"
codec = "identity"
[evaluation]
rows_per_round = 0
[simulation]
exports = false
{f"chunk_devices = {SMALL_CHUNK}" if small else ""}
[[fleet.class]]
name = "client"
count = {case.clients}
"""
    return resolve_settings(parse_config(text))
