"""Modules of one's own that register strategies, aggregators or bandits, imported by name or by file.

A fleet's processes import them too: `--plugin` on their command lines. They are started with `python -P`, so neither
the working directory nor the folder of the program that started them is searched for a name.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from fedcore.core.config.tables import Config
from fedcore.core.errors import ConfigError

OWN_SCRIPT = "__main__"


def load_plugins(plugins: str | Sequence[str]) -> tuple[str, ...]:
    """Import each plugin, a module's name or a .py file, unless it is here; return them as other processes find them.

    A file becomes an absolute path, and so does a name that stands for a single file. Raises ConfigError for what
    cannot be found, and where the module itself fails.
    """
    each = (plugins,) if isinstance(plugins, str) else plugins
    return tuple(_found_by_others(plugin, _imported(plugin)) for plugin in each)


def with_own_modules(config: Config, plugins: Sequence[str]) -> tuple[str, ...]:
    """Return `plugins` and the modules of this process that registered what `config` names, for other processes.

    Raises ConfigError where that was the running script or notebook, which no other process imports.
    """
    modules = dict.fromkeys(plugins)
    for what, name, module in _registered(config):
        if module == OWN_SCRIPT or module not in sys.modules:
            raise ConfigError(
                f"{what} {name!r} is registered in the program that is running, and the processes of a fleet do not "
                'import that; move it into a file of its own and name it: fedcore.fleet(..., plugins=["my_module.py"])'
            )
        modules[_found_by_others(module, sys.modules[module])] = None
    return tuple(modules)


def _imported(plugin: str) -> ModuleType:
    try:
        return _from_file(Path(plugin).expanduser()) if _is_file_name(plugin) else _by_name(plugin)
    except ConfigError:
        raise
    except Exception as cause:  # whatever the module does when it is imported
        raise ConfigError(f"plugin {plugin} cannot be imported: {type(cause).__name__}: {cause}") from cause


def _by_name(plugin: str) -> ModuleType:
    try:
        return importlib.import_module(plugin)
    except ModuleNotFoundError as cause:
        if cause.name is None or not f"{plugin}.".startswith(f"{cause.name}."):
            raise
        raise ConfigError(
            f"no module {cause.name!r} for plugin {plugin}: looked on PYTHONPATH and among what is installed, not in "
            "the working directory; give the file, such as ./my_module.py, or set PYTHONPATH to its folder"
        ) from None


def _from_file(file: Path) -> ModuleType:
    if not file.is_file():
        raise ConfigError(f"no file {file} for a plugin; give a .py file or the name of a module on PYTHONPATH")
    name, place = file.stem, file.resolve()
    if _file_of(sys.modules[OWN_SCRIPT]) == place:
        raise ConfigError(
            f"plugin {file} is the program that is running; move what it registers into a file of its own"
        )
    known = sys.modules.get(name)
    if known is not None:
        if _file_of(known) == place:
            return known
        raise ConfigError(f"plugin {file}: a module called {name!r} is imported already; rename the file")
    spec = importlib.util.spec_from_file_location(name, place)
    if spec is None or spec.loader is None:
        raise ConfigError(f"plugin {file}: expected a Python file, such as my_module.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(place.parent) not in sys.path:
        sys.path.append(str(place.parent))  # at the end: modules beside it are found, and shadow nothing
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is_file_name(plugin: str) -> bool:
    return plugin.endswith(".py") or "/" in plugin or "\\" in plugin


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return None if file is None else Path(file).resolve()


def _found_by_others(plugin: str, module: ModuleType) -> str:
    """A module that is one file is named by it; one in a package keeps its name, which PYTHONPATH must lead to."""
    file = _file_of(module)
    alone = "." not in module.__name__ and not hasattr(module, "__path__") and file is not None
    return str(file) if alone else plugin


def _registered(config: Config) -> Iterator[tuple[str, str, str]]:
    """Yield (what, name, module) of every entry of one's own that the configuration names."""
    from fedcore.core.aggregation.table import AGGREGATORS
    from fedcore.core.bandit.table import BANDITS
    from fedcore.strategies.table import STRATEGIES, resolve_settings

    name = config.strategy.name
    if name in STRATEGIES.own:
        yield STRATEGIES.what, name, STRATEGIES.own[name].settings.__module__
    for settings in {config.strategy, resolve_settings(config).strategy}:
        if settings.aggregator in AGGREGATORS.own:
            yield AGGREGATORS.what, settings.aggregator, AGGREGATORS.own[settings.aggregator].__module__
        if settings.bandit in BANDITS.own:
            yield BANDITS.what, settings.bandit, BANDITS.own[settings.bandit].__module__
