"""The mirror with wandb itself, offline: what it writes is read back and compared with records."""

import http.server
import importlib.metadata
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import wandb_files
from wandb_suite import RECORDS, board, comparisons, figure, record

from fedbench.errors import SettingsError
from fedbench.report.tracking import Mirror, mirroring
from fedbench.report.tracking.content import of_board, of_record

KEY = "0" * 40


def lay(patch, folder):
    """Set up a machine that nobody has logged in on."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        patch.delenv(name)
    patch.setenv("HOME", str(folder / "somebody"))
    patch.setenv("NETRC", str(folder / "netrc"))
    patch.setenv("http_proxy", "")
    (folder / "here").mkdir()
    patch.chdir(folder / "here")


def mirror(found, figures, numbers, suite):
    """Mirror a suite that has run, from its records alone, as ``fedbench report --wandb`` does."""
    with Mirror(suite) as live:
        return live.finish(found, figures, numbers)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    lay(monkeypatch, tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    """A suite that was mirrored twice: the first outcome, the second, and all runs after each."""
    folder = tmp_path_factory.mktemp("mirrored")
    with pytest.MonkeyPatch.context() as patch:
        lay(patch, folder)
        suite, found = folder / "toy", board()
        first = mirror(found, [figure()], comparisons(found), suite)
        before = wandb_files.runs(suite)
        second = mirror(found, [figure()], comparisons(found), suite)
        yield suite, first, before, second, wandb_files.runs(suite)


def test_every_record_is_a_run_and_the_leaderboard_one_more(mirrored):
    suite, outcome, runs, *_ = mirrored
    assert set(runs) == {each.cell_id for each in RECORDS} | {"leaderboard-toy-quick"}
    assert (outcome.written, outcome.same, outcome.lost) == (7, 0, 0)
    assert not outcome.online
    assert f"`wandb sync {suite}/wandb` uploads them" in str(outcome)


@pytest.mark.parametrize("source", RECORDS, ids=lambda source: source.cell_id)
def test_a_run_says_what_its_record_says(mirrored, source):
    run, content = mirrored[2][source.cell_id], of_record(source)
    assert (run.project, run.group, run.job_type) == ("fedbench", source.suite, "cell")
    assert (run.name, run.tags, run.notes) == (
        content.name,
        list(content.tags),
        content.notes or "",
    )
    assert run.config == content.config
    assert run.summary == content.summary
    assert run.history == list(content.history)
    assert run.exit_code == int(source.status == "failed")


def test_curves_are_drawn_over_steps_and_stay_out_of_the_summary(mirrored):
    run = mirrored[2]["fedavg-None-0"]
    assert run.axes == {"step": "", "round": "", "bytes": "", "curve/*": "step"}
    assert len(run.history) == 4
    assert not {"step", "round", "bytes", "curve"} & set(run.summary)


def test_the_leaderboard_has_all_tables_and_figures(mirrored):
    run, found = mirrored[2]["leaderboard-toy-quick"], board()
    content = of_board(found, [figure()], comparisons(found))
    assert run.job_type == "leaderboard"
    assert run.config == content.config
    for name in ("table", "pivot", "runs", "published"):
        sheet = content.sheets[name]
        assert run.table(name) == {"columns": list(sheet.columns), "data": list(sheet.data)}
    assert figure().svg in run.page("figures/bytes-digits")
    assert len(run.history) == 1  # written once, at the end
    assert {name: run.summary[name] for name in content.summary} == content.summary


def test_mirroring_twice_gives_the_same_runs(mirrored):
    _, _, before, outcome, after = mirrored
    assert (outcome.written, outcome.same, outcome.lost) == (0, 7, 0)
    assert {run.folder for run in after.values()} == {run.folder for run in before.values()}


def test_nothing_is_written_elsewhere(mirrored):
    suite = mirrored[0]
    assert [path.name for path in suite.iterdir()] == ["wandb"]
    assert sorted(path.name for path in suite.parent.iterdir()) == ["here", "toy"]
    assert list((suite.parent / "here").iterdir()) == []


def test_a_sweep_is_mirrored_as_it_goes_and_not_disturbed(machine, capfd):
    suite, found = machine / "toy", board(RECORDS[:3])
    numbers = random.getstate()
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    with Mirror(suite) as live:
        for each in RECORDS[:2]:
            begin = time.perf_counter()
            live.add(each)
            assert time.perf_counter() - begin < 1  # a run of W&B takes seconds to begin
        wait_for(lambda: len(list(suite.glob("wandb/offline-run-*"))) == 2)
        outcome = live.finish(found)
    assert outcome.written == 4
    changed = record("fedavg", 0, 0.9)
    outcome = mirror(board((changed, *RECORDS[1:3])), [], [], suite)
    assert (outcome.written, outcome.same) == (2, 2)  # the cell and the leaderboard
    runs = wandb_files.runs(suite)
    assert len(runs) == 4
    assert runs[changed.cell_id].summary["accuracy"] == 0.9
    assert random.getstate() == numbers
    assert {number: signal.getsignal(number) for number in handlers} == handlers
    assert capfd.readouterr() == ("", "")


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_a_killed_sweep_leaves_whole_runs_and_no_process(machine):
    """The writer ends with its sweep; what it was given is there, and the next report goes on."""
    code = (
        f"import os, sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\n"
        "from wandb_suite import RECORDS\n"
        "from fedbench.report.tracking import Mirror\n"
        "live = Mirror(Path('toy'))\n"
        "live.add(RECORDS[0])\n"
        "while live._process is None or not live._states: pass\n"
        "assert 'wandb' not in sys.modules\n"
        "print(live._process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, timeout=60)
    assert done.returncode == -signal.SIGKILL
    wait_for(lambda: not group_lives(int(done.stdout)))
    assert set(wandb_files.runs(machine / "here" / "toy")) == {RECORDS[0].cell_id}


def group_lives(leader):
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def broken(machine, monkeypatch):
    """Put a wandb that does something else in front of the installed one."""

    def put(code):
        (machine / "front" / "wandb").mkdir(parents=True)
        (machine / "front" / "wandb" / "__init__.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(machine / "front"))

    return put


@pytest.mark.parametrize(
    "code", ["import os\nos._exit(3)", "raise ImportError('half installed')", "print('garbage')"]
)
def test_a_broken_wandb_is_one_warning(machine, broken, caplog, code):
    broken(code)
    with Mirror(machine / "toy") as live:
        for each in RECORDS:
            live.add(each)
        outcome = live.finish(board())
    assert (outcome.written, outcome.lost) == (0, 7)
    assert "7 missing" in str(outcome)
    assert len(caplog.records) == 1
    assert "writer.log" in caplog.text


def test_a_hanging_wandb_is_stopped(machine, broken, caplog):
    broken("import time\ntime.sleep(600)")
    begin = time.monotonic()
    with Mirror(machine / "toy", patience=1.0) as live:
        assert live.finish(board()).lost == 7
    assert time.monotonic() - begin < 20
    assert "the rest is not mirrored" in caplog.text


def test_after_ctrl_c_the_mirror_ends_soon(machine, broken, monkeypatch):
    broken("import time\ntime.sleep(600)")
    monkeypatch.setattr(mirroring, "GRACE", 0.5)
    begin = time.monotonic()

    def interrupted():
        with Mirror(machine / "toy") as live:
            live.add(RECORDS[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - begin < 20


class Refusing(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b'{"error": "unauthorised"}')

    def log_message(self, *_):
        pass


def test_a_server_that_refuses_the_key_costs_a_warning(machine, monkeypatch, caplog):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        outcome = mirror(board(RECORDS[:2]), [], [], machine / "toy")
        server.shutdown()
    assert (outcome.written, outcome.lost, outcome.online) == (3, 0, False)
    assert len(caplog.records) == 1
    assert "W&B cannot be reached" in caplog.text
    assert len(wandb_files.runs(machine / "toy")) == 3  # nothing is left of the failed attempt


@pytest.mark.slow
def test_no_network_costs_half_a_minute_and_a_warning(machine, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    begin = time.monotonic()
    outcome = mirror(board(RECORDS[:2]), [], [], machine / "toy")
    assert time.monotonic() - begin < 60
    assert (outcome.written, outcome.lost) == (3, 0)
    assert len(caplog.records) == 1
    assert len(wandb_files.runs(machine / "toy")) == 3


def test_wandbs_own_inspector_agrees(mirrored):
    """`wandb leet inspect` is what the docs show to people without an account."""
    run = mirrored[2]["fedavg-None-1"]
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", run.folder],
        check=True,
        capture_output=True,
        timeout=60,
    )
    found = json.loads(done.stdout)
    assert found["summary"]["accuracy"] == run.summary["accuracy"]


@pytest.mark.parametrize("version", ["0.18.7", "0.30.1", "unknown"])
def test_an_old_wandb_is_an_error_before_anything_is_computed(tmp_path, monkeypatch, version):
    monkeypatch.setattr("importlib.metadata.version", lambda _: version)
    with pytest.raises(SettingsError, match=rf"0\.31 or newer, and {version}.*pip install"):
        Mirror(tmp_path)


def test_a_missing_wandb_is_an_error_before_anything_is_computed(tmp_path, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    with pytest.raises(SettingsError, match=r"not installed.*leave out --wandb"):
        Mirror(tmp_path)


def test_the_writer_gets_nothing_of_a_run_around_it(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_RESUME", "allow")
    monkeypatch.setenv("WANDB_RUN_ID", "theirs")
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    found = mirroring._environment(tmp_path)
    assert not {"WANDB_RESUME", "WANDB_RUN_ID"} & set(found)
    assert found["WANDB_PROJECT"] == "mine"
    assert found["WANDB_ERROR_REPORTING"] == "false"
