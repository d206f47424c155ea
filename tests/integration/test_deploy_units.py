"""The systemd units, judged by systemd itself (which need not be running)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from ichnode.service.supervisor import OPTIONAL_ROLES, ROLES

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS_OF_SYSTEMD = Path("/usr/lib/systemd/system")
MOST_EXPOSURE = 3.0

pytestmark = pytest.mark.peer


@pytest.fixture
def installed(tmp_path) -> Path:
    """A root folder with the units, systemd's own, and something where the program should be."""
    units = tmp_path / "etc/systemd/system"
    shutil.copytree(DEPLOY, units)
    shutil.copytree(UNITS_OF_SYSTEMD, tmp_path / "usr/lib/systemd/system", symlinks=True)
    program = tmp_path / "opt/ichnode/venv/bin/ichnode"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return tmp_path


@pytest.fixture
def systemd_analyze(require_program, installed):
    """Run systemd-analyze over that root."""
    program = require_program("systemd-analyze")

    def run(verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [program, verb, f"--root={installed}", "--no-pager", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return run


UNITS = [
    *(f"ichnode@{role}.service" for role in (*ROLES, *OPTIONAL_ROLES)),
    "ichnode.target",
    "ichnode-retrain.service",
    "ichnode-retrain.path",
]


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_nothing_wrong_with_a_unit(systemd_analyze, unit):
    """Every unit verifies without a word."""
    done = systemd_analyze("verify", "--man=no", "--recursive-errors=yes", unit)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_verification_would_notice(systemd_analyze, installed):
    """A misspelt key in a drop-in is found, so that a clean answer means something."""
    drop_in = installed / "etc/systemd/system/ichnode@web.service.d/wrong.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nProtectSystm=strict\n")
    done = systemd_analyze("verify", "--man=no", "--recursive-errors=yes", "ichnode@web.service")
    assert done.returncode != 0
    assert "ProtectSystm" in done.stderr


@pytest.mark.parametrize("role", [role for role in (*ROLES, *OPTIONAL_ROLES) if role != "infer"])
def test_a_role_is_exposed_as_little_as_was_promised(systemd_analyze, role, record_property):
    """Every role but infer, which needs devices and a compiler, is at 3.0 or less."""
    threshold = str(round(MOST_EXPOSURE * 10))
    unit = f"ichnode@{role}.service"
    done = systemd_analyze("security", "--offline=true", f"--threshold={threshold}", unit)
    record_property("exposure", done.stdout.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout


def settings_of(installed: Path, unit: str) -> dict[str, str]:
    """The last value of each key over a unit and its drop-ins."""
    units = installed / "etc/systemd/system"
    template = units / f"{unit.split('@')[0]}@.service"
    found: dict[str, str] = {}
    for file in [template, *sorted((units / f"{unit}.d").glob("*.conf"))]:
        for line in file.read_text(encoding="utf-8").splitlines():
            if "=" in line and not line.startswith("#"):
                key, _, value = line.partition("=")
                found[key] = value
    return found


def test_only_the_receiver_may_bind_the_standards_port(installed):
    """No role but receive holds any capability."""
    held = {
        role: settings_of(installed, f"ichnode@{role}.service")["CapabilityBoundingSet"]
        for role in ROLES
    }
    assert held.pop("receive") == "CAP_NET_BIND_SERVICE"
    assert set(held.values()) == {""}


def test_the_infer_role_keeps_its_gpu_and_its_compiler(installed):
    """Its drop-in takes back the two things that break CUDA and torch.compile, for it alone."""
    infer = settings_of(installed, "ichnode@infer.service")
    deliver = settings_of(installed, "ichnode@deliver.service")
    for key in ("PrivateDevices", "MemoryDenyWriteExecute"):
        assert (infer[key], deliver[key]) == ("no", "yes")


def test_a_stop_outlasts_the_drain():
    """Neither systemd nor the supervisor kills a receiver that still waits, or records the last."""
    from ichnode.receive.scp import FLUSH_S
    from ichnode.receive.transport import LINGER_S
    from ichnode.service.supervisor import STOP_S
    from ichnode.settings import ReceiveSettings

    longest = STOP_S - LINGER_S - FLUSH_S
    with pytest.raises(ValidationError):
        ReceiveSettings(drain_s=longest)
    timeout = settings_of_deploy("ichnode@.service")["TimeoutStopSec"]
    assert int(timeout) > STOP_S


def test_the_target_starts_every_role():
    """No role is forgotten, and none is named that does not exist."""
    text = (DEPLOY / "ichnode.target").read_text(encoding="utf-8")
    named = {
        word.removeprefix("ichnode@").removesuffix(".service")
        for line in text.splitlines()
        if line.startswith("Wants=")
        for word in line.removeprefix("Wants=").split()
    }
    assert named == set(ROLES)


def test_housekeeping_and_systemd_mean_the_same_request():
    """The path unit watches the file that housekeeping leaves, and a refusal is no failure."""
    from ichnode.service.retraining import REFUSED, REQUEST
    from ichnode.settings import Settings

    watched = settings_of_deploy("ichnode-retrain.path")
    assert watched["PathExists"] == str(Settings().retrain.folder / REQUEST)
    assert watched["Unit"] == "ichnode-retrain.service"
    assert settings_of_deploy("ichnode-retrain.service")["SuccessExitStatus"] == str(REFUSED)


def settings_of_deploy(unit: str) -> dict[str, str]:
    """The keys of a unit as it ships."""
    lines = (DEPLOY / unit).read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give folders to another user")
def test_the_user_and_folders_of_the_units_are_made(require_program, installed):
    """systemd-sysusers makes the user that the units name, systemd-tmpfiles the folders."""
    for program, file in (("systemd-sysusers", "sysusers"), ("systemd-tmpfiles", "tmpfiles")):
        path = require_program(program)
        flags = ["--create"] if file == "tmpfiles" else []
        done = subprocess.run(
            [path, f"--root={installed}", *flags, str(DEPLOY / f"ichnode.{file}")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert "ichnode:" in (installed / "etc/passwd").read_text(encoding="utf-8")
    assert (installed / "var/lib/ichnode/spool").is_dir()
