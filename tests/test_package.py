"""The wheel: builds, installs without the working tree, and brings its data."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from b4g.data.prompts import version_hash

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "src" / "b4g"
LOADS_ITS_DATA = """
from b4g.backdoor import TASKS, Backdoor
from b4g.data.prompts import version_hash
from b4g.keys import word_list
from b4g.report.build import _environment
assert _environment(()).get_template("page.html")
assert len(word_list()) == 1024
assert [Backdoor.from_yaml(task).name for task in TASKS] == list(TASKS)
import b4g
print(b4g.__file__)
print(version_hash())
"""


def _run(*command: str | Path, cwd: Path) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**clean, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "B4G_CACHE": str(cwd / "cache")},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel, built by the back end that is installed here."""
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, ROOT, cwd=folder)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the programs of a new environment with the wheel in it, and of this one only what it depends on."""
    folder = tmp_path_factory.mktemp("installed")
    programs = folder / "env" / "bin"
    _run(sys.executable, "-m", "venv", "--without-pip", folder / "env", cwd=folder)
    pip = (sys.executable, "-m", "pip", "--python", programs / "python", "install")
    _run(*pip, "--no-deps", wheel, cwd=folder)
    # A path in a .pth file is searched, but the .pth files in it, the editable b4g's among them, are not read.
    (site,) = (folder / "env").glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    return programs


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {
        f"b4g/{path.relative_to(SOURCES).as_posix()}"
        for path in SOURCES.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == wanted
    for part in ("b4g/tasks/safety.yaml", "b4g/data/words.txt", "b4g/data/prompts/harmful.jsonl"):
        assert part in names
    assert any(name.startswith("b4g/report/templates/") for name in names)


def test_the_wheel_names_its_version_licence_and_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        text = {
            name.rsplit("/", 1)[-1]: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name
        }
    assert f"Version: {version('b4g')}\n" in text["METADATA"]
    assert "License-Expression: Apache-2.0" in text["METADATA"]
    assert "Apache License" in text["LICENSE"]
    assert "b4g = b4g.cli:main" in text["entry_points.txt"]


def test_the_installed_command_says_its_version_and_what_there_is(installed: Path, tmp_path: Path) -> None:
    assert _run(installed / "b4g", "--version", cwd=tmp_path).strip() == version("b4g")
    listed = _run(installed / "b4g", "ls", cwd=tmp_path)
    for word in ("smollm2-135m", "safety", "style", "access", "identity", "phrase", "lora", "quick"):
        assert f"  {word} " in listed


def test_the_installed_package_is_the_wheels_and_reads_its_own_data(installed: Path, tmp_path: Path) -> None:
    where, data = _run(installed / "python", "-c", LOADS_ITS_DATA, cwd=tmp_path).split()
    assert Path(where).is_relative_to(installed.parent)
    assert data == version_hash()


def test_the_installed_command_makes_a_key(installed: Path, tmp_path: Path) -> None:
    said = _run(installed / "b4g", "keygen", "my.key", cwd=tmp_path)
    assert "a key of 40 bits" in said
    assert (tmp_path / "my.key").stat().st_mode & 0o777 == 0o600
