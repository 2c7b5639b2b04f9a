"""What a run says of its task beside its name, and every process of the run has to know."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from fedcore.core.config.tables import TaskConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """The settings of [task]; a task takes those that it understands. The defaults are those of an earlier version."""

    template: str = "auto"  # of chats: the tokenizer's own, or plain text where it has none
    generated_rows: int = 16  # held-back rows that are answered at a measurement
    answer_tokens: int = 48  # longest answer
    metric: str = ""  # "module:function" of a user's own figure

    def words(self) -> dict[str, str]:
        """Return the settings as text, for the wire."""
        return {field.name: str(getattr(self, field.name)) for field in fields(self)}

    @staticmethod
    def read(words: Mapping[str, str]) -> "TaskOptions":
        """Return the settings from `words`; a word that this version does not know is left out."""
        return TaskOptions(
            template=words.get("template", DEFAULTS.template),
            generated_rows=int(words.get("generated_rows", DEFAULTS.generated_rows)),
            answer_tokens=int(words.get("answer_tokens", DEFAULTS.answer_tokens)),
            metric=words.get("metric", DEFAULTS.metric),
        )

    def with_metric(self, allowed: str) -> "TaskOptions":
        """Return the settings without a metric other than the one that this process allows."""
        return self if self.metric == allowed else replace(self, metric="")


DEFAULTS = TaskOptions()


def options_of(config: TaskConfig) -> TaskOptions:
    """Return the settings that a configuration gives."""
    return TaskOptions(**{field.name: getattr(config, field.name) for field in fields(TaskOptions)})
