"""The serving install: without torch, it serves a router folder that was trained elsewhere."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.tiny_router import write_router

pytestmark = pytest.mark.slow

PROVE = {"role": "user", "content": "prove it"}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT]
    subprocess.run(build, check=True)
    (built,) = folder.glob("turnout-*.whl")
    return built


def test_the_wheel_holds_every_file_of_the_source(wheel):
    package = ROOT / "src" / "turnout"
    files = {
        path.relative_to(package.parent).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files <= set(zipfile.ZipFile(wheel).namelist())


def test_the_serving_install_has_no_torch_and_no_table_engine_and_decides(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    install = [*pip, "install", "--quiet", "--no-compile", "-c", ROOT / "constraints.txt"]
    subprocess.run([*install, f"{wheel}[serve]"], check=True)
    listed = subprocess.run(
        [*pip, "list", "--format=json"], capture_output=True, text=True, check=True
    )
    names = {package["name"].lower() for package in json.loads(listed.stdout)}
    assert {"starlette", "onnxruntime"} <= names
    assert not names & {"torch", "transformers", "pyarrow", "duckdb", "scikit-learn"}
    router = write_router(tmp_path / "router")
    code = (
        "import sys, turnout\n"
        "from turnout.gateway.app import create_app\n"
        "from turnout.gateway.options import GatewayOptions, Target, Upstream\n"
        "router = turnout.load(sys.argv[1])\n"
        "targets = {c: Target(upstream='u', model=c) for c in ('reasoning', 'fast')}\n"
        "upstreams = {'u': Upstream(url='http://127.0.0.1:9/v1')}\n"
        "create_app(router, GatewayOptions(upstreams=upstreams, targets=targets))\n"
        "sys.stdout.write(router.decide('prove it').model_class)\n"
    )
    decided = subprocess.run(
        [python, "-c", code, router], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert decided.stdout == "reasoning"
    settings = tmp_path / "turnout.toml"
    settings.write_text(
        '[upstreams.u]\nurl = "http://127.0.0.1:9/v1"\n'
        '[targets.reasoning]\nupstream = "u"\nmodel = "deep"\n'
        '[targets.fast]\nupstream = "u"\nmodel = "quick"\n'
    )
    command = [
        tmp_path / "venv" / "bin" / "turnout",
        "serve",
        router,
        "-c",
        settings,
        "--port",
        "0",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as gateway:
        address = gateway.stderr.readline().rpartition(" ")[2].strip()
        routed = httpx.post(f"{address}/route", json={"messages": [PROVE]}, timeout=20).json()
        gateway.terminate()
        gateway.stderr.read()
    assert routed["target"]["model"] == "deep"
    shown = subprocess.run(
        [tmp_path / "venv" / "bin" / "turnout", "train", "x", "-o", "y"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert shown.returncode == 2
    assert "pip install 'turnout[" in shown.stderr
