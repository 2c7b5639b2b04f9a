"""The language task: LoRA fine-tuning of MiniLM on eight rows per client, two steps on all of them."""

from benchmarks.simulation.task import Recipe

RANK = 8
SCALE = 2.0  # of LoRA: alpha / rank
ROWS = 8
MAX_LENGTH = 64  # tokens
HEAD_SCALE = 10.0  # of the normalised mean over tokens, before the linear head
RECIPE = Recipe(
    batch_size=ROWS, epochs=2, learning_rate=3e-4, optimizer="adamw", weight_decay=0.0, max_gradient_norm=1.0
)
