"""What `promptward doctor` says of an installation that is not the tested one."""

from pathlib import Path

import pytest

from shared import installation
from shared.installation import origin_findings, package_findings


def test_another_flower_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "flwr-1.38.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: flwr\nVersion: 1.38.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = list(package_findings(installation.LOCK))
    assert [(finding.check, finding.state) for finding in found] == [("flwr", "wrong")]
    assert "flwr 1.38.0 is installed; flwr==1.39.0 is needed" in found[0].said


def test_a_version_that_was_not_tested_is_a_warning(tmp_path: Path) -> None:
    assert [finding.state for finding in package_findings(installation.LOCK)] == ["ok"]
    (tmp_path / "lock").write_text("# made\nnumpy==0.1\nnot-installed==3\ncolorama==0.1 ; sys_platform == 'win32'\n")
    [found] = package_findings(tmp_path / "lock")
    assert (found.check, found.state) == ("numpy", "warning")
    assert [finding.state for finding in package_findings(tmp_path / "none")] == ["ok"]


def test_a_foreign_package_on_pythonpath(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "client").mkdir()
    (tmp_path / "client" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    [found] = origin_findings("client")
    assert found.state == "wrong"
    assert str(tmp_path / "client") in found.said
    assert "unset PYTHONPATH" in found.mend
