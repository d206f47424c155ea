"""The built wheel, installed outside the checkout, is the whole product."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIGURATION = """
[node]
spool = "{folder}/spool"
database = "sqlite:///{folder}/worklist.db"
[infer]
models = "{folder}/models"
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Build the wheel and install it alone into a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True, text=True)
    (wheel,) = folder.glob("*.whl")
    target = folder / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run([*install, str(target), str(wheel)], check=True, capture_output=True)
    return target


@pytest.fixture
def ichnode(installed, tmp_path):
    """Run the installed command away from the checkout."""
    (tmp_path / "ichnode.toml").write_text(CONFIGURATION.format(folder=tmp_path))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ICHNODE_")}
    environment["PYTHONPATH"] = str(installed)

    def run(*arguments, program=("-m", "ichnode", "--config", "ichnode.toml")):
        return subprocess.run(
            [sys.executable, *program, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return run


def test_it_is_the_installed_package_that_runs(ichnode, installed):
    """What is tested here is the wheel and not the checkout."""
    done = ichnode(program=("-c", "import ichnode, train; print(ichnode.__file__, train.__file__)"))
    assert done.returncode == 0, done.stderr
    assert all(path.startswith(str(installed)) for path in done.stdout.split())


@pytest.mark.slow
def test_it_migrates_and_then_the_doctor_finds_everything(ichnode):
    """Migrations and the shipped model are inside: `db upgrade`, then `doctor` is content."""
    before = ichnode("db", "check")
    assert before.returncode == 78
    assert "ichnode db upgrade" in before.stderr
    upgraded = ichnode("db", "upgrade")
    assert upgraded.returncode == 0, upgraded.stderr
    doctor = ichnode("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(doctor.stdout)}
    assert doctor.returncode == 0, checks
    assert {"database", "disk", "clock", "model", "mode"} <= set(checks)


def test_the_units_and_the_commented_configuration_come_along(installed):
    """An administrator finds deploy/ in the installed package."""
    deploy = installed / "ichnode" / "_deploy"
    assert {"ichnode.toml", "ichnode@.service", "ichnode.target"} <= {
        path.name for path in deploy.iterdir()
    }
