"""The libraries that some figures of written answers need, which an installation may lack."""

from importlib.util import find_spec

from fedcore.core.tasks.options import TaskOptions
from fedcore.core.tasks.task import Task

LIBRARIES = {"chrF": ("sacrebleu", "client"), "ROUGE-L": ("rouge_score", "rouge")}  # figure: library, extra of fedcore


def left_out(task: Task, options: TaskOptions) -> tuple[str, ...]:
    """Return a line on the figures that a run will not have here, and how to get them; none where nothing is missing.

    Whoever measures says it once, when a run begins.
    """
    if not task.forms or not options.generated_rows:
        return ()
    missing = {figure: needs for figure, needs in LIBRARIES.items() if find_spec(needs[0]) is None}
    if not missing:
        return ()
    libraries, extras = zip(*missing.values(), strict=True)
    are = "is" if len(missing) == 1 else "are"
    return (
        f"{' and '.join(missing)} {are} left out, for want of {' and '.join(libraries)}: "
        f"pip install 'fedcore[{','.join(extras)}]'",
    )
