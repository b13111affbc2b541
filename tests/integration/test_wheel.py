"""What is delivered: the wheel, in an empty virtual environment, away from the checkout."""

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built as anybody would build it."""
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(directory), str(ROOT)]
    subprocess.run(command, check=True, timeout=300)
    (path,) = directory.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` directory of an environment that has the wheel and what it depends on, and nothing else."""
    directory = tmp_path_factory.mktemp("installed")
    venv.create(directory, with_pip=False)
    command = [sys.executable, "-m", "pip", "--python", str(directory), "install", "--quiet", str(wheel)]
    subprocess.run(command, check=True, timeout=300)
    return directory / "bin"


def test_the_wheel_holds_everything_that_the_source_has(wheel: Path) -> None:
    """Every module, template and data file of the four packages is inside, and no test is."""
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    packages = ("nerve", "synapse", "smartstack", "haproxy_templates")
    wanted = {
        str(path.relative_to(ROOT))
        for package in packages
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert any(name.endswith(".j2") for name in wanted)
    assert wanted - inside == set()
    assert {name.split("/")[0] for name in inside if ".dist-info/" not in name} == set(packages)


@pytest.mark.parametrize("command", ["nerve", "synapse", "smartstack"])
def test_each_command_helps(command: str, installed: Path, tmp_path: Path) -> None:
    """Installed elsewhere, each command starts and says what it is for."""
    ended = subprocess.run(
        [installed / command, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"Usage: {command} ")


@pytest.mark.parametrize("model", ["service", "nerve", "synapse"])
def test_the_registered_models_are_found(model: str, installed: Path, tmp_path: Path) -> None:
    """The models that `smartstack` knows by their entry points only are there after an installation."""
    ended = subprocess.run(
        [installed / "smartstack", "schema", model],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["type"] == "object"


def test_the_templates_can_be_read(installed: Path, tmp_path: Path) -> None:
    """The templates come with the package, and are found without the checkout."""
    program = (
        "from importlib.resources import files; import haproxy_templates\n"
        "print(haproxy_templates.__file__)\n"
        "print(sorted(path.name for path in files(haproxy_templates).iterdir() if path.name.endswith('.j2')))"
    )
    ended = subprocess.run(
        [installed / "python", "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    where, names = ended.stdout.splitlines()
    assert str(installed.parent) in where
    assert names == str(sorted(path.name for path in (ROOT / "haproxy_templates").glob("*.j2")))
