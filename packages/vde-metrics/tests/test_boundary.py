import os
import subprocess
import sys
import warnings

import click
import pytest

from vde_metrics.command_line import one_line, run_command
from vde_metrics.command_line.boundary import described


@click.command()
@click.option("--loud", is_flag=True)
def quiet(loud):
    click.echo("said")


def failing(error):
    @click.command()
    def command():
        raise error

    return command


USERS = [
    ValueError("a\nb"),
    TypeError("no number"),
    FileNotFoundError(2, "No such file or directory", "clip.mp4"),
    ImportError("No module named 'x'"),
    FloatingPointError("not finite"),
    OverflowError("too large"),
    RecursionError("maximum recursion depth exceeded"),
    MemoryError(),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    click.ClickException("wrong"),
    click.UsageError("wrong"),
]


@pytest.mark.parametrize("error", USERS, ids=lambda error: type(error).__name__)
def test_what_a_user_can_get_wrong_is_one_line_and_exit_2(capsys, error):
    assert run_command(failing(error), [], name="tool") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tool: ")
    assert err.count("\n") == 1
    assert len(err) > len("tool: \n")


@pytest.mark.parametrize("error", [AttributeError("x"), KeyError("x"), AssertionError(), RuntimeError("a fault")])
def test_faults_of_the_program_keep_their_traceback(error):
    with pytest.raises(type(error)):
        run_command(failing(error), [], name="tool")


def test_tracebacks_can_be_asked_for():
    with pytest.raises(ValueError, match="no"):
        run_command(failing(ValueError("no")), [], name="tool", traceback=True)


def test_lines_hold_no_control_characters():
    assert one_line("a\n  b\x1b[31m\x00\u202e") == "a b\\x1b[31m\\x00\\u202e"
    assert (
        described(OSError(28, "No space left on device", b"clip\xff.mp4")) == "clip\\udcff.mp4: no space left on device"
    )


def test_a_stop_is_exit_130(capsys):
    assert run_command(failing(KeyboardInterrupt()), [], name="tool") == 130
    assert capsys.readouterr().err == "\ntool: stopped\n"


def test_warnings_are_a_line_each(capsys):
    @click.command()
    def command():
        warnings.warn("half\nof it", RuntimeWarning, stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert run_command(command, [], name="tool") == 0
    assert capsys.readouterr().err == "tool: warning: half of it\n"


SCRIPT = """
import sys, click
from vde_metrics.command_line import run_command
{}
sys.exit(run_command(tool, sys.argv[1:], name='tool'))
"""
TOOL = "@click.command()\ndef tool():\n    click.echo('日本' * 100_000)"


def shell(redirection, *, tool=TOOL, **environment):
    """Exit code, stdout and stderr of a tool that prints a lot."""
    command = f'"$0" -c "$1" {redirection}'
    arguments = ["bash", "-c", command, sys.executable, SCRIPT.format(tool)]
    done = subprocess.run(arguments, capture_output=True, env={**os.environ, **environment}, check=False)
    return done.returncode, done.stdout, done.stderr.decode()


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("redirection", "said"),
    [
        (">/dev/full", "standard output cannot be written to: no space left on device"),
        (">&-", "standard output is closed"),
        ("| true; exit ${PIPESTATUS[0]}", "standard output cannot be written to: broken pipe"),
        (">/dev/full 2>/dev/full", ""),
        (">/dev/full 2>&-", ""),
    ],
)
def test_a_full_or_closed_output_is_one_line_and_exit_2(redirection, said, unbuffered):
    code, _, err = shell(redirection, PYTHONUNBUFFERED=unbuffered)
    assert code == 2
    assert err.count("\n") == bool(said)
    assert said in err


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "utf-8"])
def test_characters_that_a_terminal_cannot_show_are_replaced(encoding):
    code, out, err = shell("", PYTHONIOENCODING=encoding)
    assert (code, err) == (0, "")
    assert out.startswith((b"??", "日本".encode()))  # click writes UTF-8 where Python thinks of ASCII
    code, _, err = shell(
        "", tool=TOOL.replace("click.echo('日本' * 100_000)", "raise ValueError('日本')"), PYTHONIOENCODING=encoding
    )
    assert (code, err.count("\n")) == (2, 1)
