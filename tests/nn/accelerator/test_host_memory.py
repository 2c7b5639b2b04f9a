from pathlib import Path

from fedcore.nn.accelerator.host_memory import KIB, FreeMemory, host_memory

GIB = 2**30


def machine(root: Path, free: int, total: int) -> Path:
    (root / "proc").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: {total // KIB} kB\nMemAvailable: {free // KIB} kB\nHugePages: 0\n")
    return root


def group(root: Path, folder: str, names: tuple[str, str], limit: str, used: int, stat: str) -> None:
    place = root / "sys/fs/cgroup" / folder
    place.mkdir(parents=True, exist_ok=True)
    (place / names[0]).write_text(limit + "\n")
    (place / names[1]).write_text(f"{used}\n")
    (place / "memory.stat").write_text(stat)


def test_a_machine_says_what_is_available(tmp_path: Path) -> None:
    assert host_memory(machine(tmp_path, 3 * GIB, 8 * GIB)) == FreeMemory(free=3 * GIB, total=8 * GIB)


def test_a_container_has_what_its_limit_leaves_with_the_cache_that_gives_way(tmp_path: Path) -> None:
    root, names = machine(tmp_path, 3 * GIB, 8 * GIB), ("memory.max", "memory.current")
    group(root, "", names, str(2 * GIB), GIB + GIB // 2, f"anon 5\ninactive_file {GIB // 2}\n")
    assert host_memory(root) == FreeMemory(free=GIB, total=2 * GIB)
    group(root, "", names, "max", GIB, "")
    assert host_memory(root) == FreeMemory(free=3 * GIB, total=8 * GIB)
    group(root, "", names, str(GIB), 2 * GIB, "")
    assert host_memory(root) == FreeMemory(free=0, total=GIB)


def test_the_older_kind_of_container_too(tmp_path: Path) -> None:
    root, names = machine(tmp_path, 3 * GIB, 8 * GIB), ("memory.limit_in_bytes", "memory.usage_in_bytes")
    group(root, "memory", names, str(2**63 - 4096), GIB, "")
    assert host_memory(root) == FreeMemory(free=3 * GIB, total=8 * GIB)
    group(root, "memory", names, str(GIB), GIB // 2, "total_inactive_file 0\n")
    assert host_memory(root) == FreeMemory(free=GIB // 2, total=GIB)


def test_another_system_gives_half_of_what_is_built_in(tmp_path: Path) -> None:
    memory = host_memory(tmp_path)
    assert memory is not None and memory.free == memory.total // 2 > 0


def test_this_machine_has_memory() -> None:
    memory = host_memory()
    assert memory is not None and 0 < memory.free <= memory.total
