import pytest

from benchmarks.gpu import __main__ as gpu


def test_without_an_accelerator_it_says_so_and_ends_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "accelerators", tuple)
    gpu.main()
    assert "no accelerator" in capsys.readouterr().out
