"""ONNX Runtime reports nothing to its makers, whatever loads it."""

import subprocess
import sys

import pytest

from tests.network import watch


def python(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-W", "always", "-c", code, *map(str, arguments)],
        capture_output=True, text=True, check=True, env=watch.environment() | environment,
    )  # fmt: skip


def test_what_would_leave_this_machine_is_noted():
    watch.require()
    python(
        "import contextlib, socket\n"
        "for host in ('example.org', '203.0.113.1', '2001:db8::1'):\n"
        "    with contextlib.suppress(OSError): socket.getaddrinfo(host, 80)\n"
        "with contextlib.suppress(OSError): socket.socket().connect(('203.0.113.1', 80))\n"
        "udp = socket.socket(type=socket.SOCK_DGRAM)\n"
        "with contextlib.suppress(OSError): udp.sendto(b'x', ('203.0.113.1', 53))\n"
        "with contextlib.suppress(OSError): socket.create_connection(('127.0.0.1', 9))\n"
    )
    assert watch.attempts() == [
        "look-up of example.org",
        "look-up of 203.0.113.1",
        "look-up of 2001:db8::1",
        "connection of 203.0.113.1",
        "connection of 203.0.113.1",
    ]


@pytest.mark.parametrize("submodule", [None, "quantization"])
def test_nothing_is_written_for_reports_at_home(tmp_path, submodule):
    code = (
        "import sys; from turnout.routing.onnx_runtime import onnx_runtime\n"
        f"onnx_runtime({submodule!r})"
    )
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    assert python(code, **home).stderr == ""
    assert list(tmp_path.iterdir()) == [], "with reports on, a device id is kept here"


def test_a_program_that_loaded_it_first_is_warned_once():
    code = (
        "import os; {}\nimport onnxruntime\n"
        "from turnout.routing.onnx_runtime import onnx_runtime\n"
        "onnx_runtime(); onnx_runtime()"
    )
    shown = python(code.format("")).stderr
    assert shown.count("was imported before turnout loaded it and may report") == 1
    assert python(code.format("os.environ['ORT_DISABLE_TELEMETRY'] = '1'")).stderr == ""


def test_deciding_what_to_read_loads_no_onnx_runtime():
    python("import sys, turnout.routing; sys.exit('onnxruntime' in sys.modules)")
