"""The writer's decisions, with a stand-in for wandb: online or not, again or not, what to warn."""

import sys
from types import SimpleNamespace

import pytest
from wandb_suite import board, record

from fedbench.report.tracking.content import of_board, of_record
from fedbench.report.tracking.shelf import Entry, Shelf
from fedbench.report.tracking.writer import Writer


class StandIn:
    """As much of wandb as the writer uses; runs are folders with an empty log."""

    class Error(Exception):
        pass

    def __init__(self, root, mode="online", project=None):
        self.root, self.mode, self.project = root, mode, project
        self.login = lambda **_: True
        self.refuse, self.late = None, None
        self.calls, self.torn_down = [], 0
        self.Settings = SimpleNamespace
        self.Table = self.Html = SimpleNamespace
        self.Image = lambda grid, caption: SimpleNamespace(grid=grid, caption=caption)
        self.Artifact, self.logged, self.artifacts = StandInArtifact, [], []

    def setup(self):
        values = {"base_url": "https://x", "entity": None}
        return SimpleNamespace(
            settings=SimpleNamespace(mode=self.mode, project=self.project, **values)
        )

    def teardown(self):
        self.torn_down += 1

    def init(self, **options):
        self.calls.append(options)
        if self.refuse and options["mode"] in self.refuse:
            raise self.Error("no route to host\nConsider more patience")
        prefix = "offline-run" if options["mode"] == "offline" else "run"
        folder = self.root / "wandb" / f"{prefix}-{len(self.calls)}-{options['id']}"
        folder.mkdir(parents=True)
        (folder / f"run-{options['id']}.wandb").touch()
        return SimpleNamespace(
            define_metric=lambda *_, **__: None,
            log=self.logged.append,
            log_artifact=self.artifacts.append,
            summary={},
            finish=self._finish if options["mode"] == "online" else lambda **_: None,
        )

    def _finish(self, **_):
        if self.late:
            raise self.late

    def modes(self):
        return [options["mode"] for options in self.calls]

    def folders(self):
        return sorted(path.name for path in (self.root / "wandb").glob("*run-*"))


class StandInArtifact:
    """As much of an artifact as the writer uses."""

    def __init__(self, name, type, metadata):
        self.name, self.type, self.metadata, self.files = name, type, metadata, []

    def add_file(self, path):
        self.files.append(path)


@pytest.fixture
def wandb(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_DATA_DIR", "to be restored")
    found = StandIn(tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", found)
    return found


@pytest.fixture
def run():
    return of_record(record("fedavg"))


def changed(seconds=9.0):
    return of_record(record("fedavg", wall_seconds=seconds))


def test_with_a_login_runs_go_online_once(wandb, run, tmp_path):
    writer = Writer(tmp_path)
    assert writer.write(run).state == "written"
    assert writer.write(run).state == "same"
    assert Writer(tmp_path).write(run).state == "same"
    assert wandb.modes() == ["online"]
    options = wandb.calls[0]
    assert (options["id"], options["group"], options["project"]) == (run.id, "toy", "fedbench")
    assert "resume" not in options  # unset, a run of the same id is replaced
    assert options["dir"] == tmp_path
    assert options["settings"].init_timeout == 15


def test_the_environments_project_is_taken(wandb, run, tmp_path):
    wandb.project = "mine"
    assert Writer(tmp_path).write(run).state == "written"
    assert wandb.calls[0]["project"] == "mine"
    wandb.project = "another"
    assert Writer(tmp_path).write(run).state == "written"


def test_a_changed_record_replaces_its_run(wandb, run, tmp_path):
    wandb.mode = "offline"
    writer = Writer(tmp_path)
    writer.write(run)
    assert writer.write(changed()).state == "written"
    assert wandb.folders() == [f"offline-run-2-{run.id}"]


def test_without_a_login_runs_are_written_offline_in_silence(wandb, run, tmp_path):
    wandb.login = lambda **_: False
    reply = Writer(tmp_path).write(run)
    assert (reply.state, reply.online, reply.warning) == ("written", False, None)
    assert wandb.modes() == ["offline"]


def test_who_asks_for_online_hears_that_there_is_no_login(wandb, run, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    wandb.login = lambda **_: False
    writer = Writer(tmp_path)
    assert "wandb login" in writer.write(run).warning
    assert writer.write(changed()).warning is None


def test_a_broken_login_is_one_warning(wandb, run, tmp_path):
    def refuse(**_):
        raise wandb.Error("the key is too short")

    wandb.login = refuse
    writer = Writer(tmp_path)
    reply = writer.write(run)
    assert (reply.state, reply.online) == ("written", False)
    assert "the key is too short" in reply.warning
    assert writer.write(changed()).warning is None


def test_a_login_never_asks(wandb, tmp_path):
    asked = {}
    wandb.login = lambda **options: asked.update(options) or True
    Writer(tmp_path)
    assert asked == {"prompt": False, "verify": False}


def test_an_unreachable_server_is_tried_once(wandb, run, tmp_path):
    wandb.refuse = {"online"}
    writer = Writer(tmp_path)
    reply = writer.write(run)
    assert (reply.state, reply.online) == ("written", False)
    assert reply.warning == "W&B cannot be reached (no route to host); runs are written offline"
    assert writer.write(changed()).warning is None
    assert wandb.modes() == ["online", "offline", "offline"]
    assert wandb.torn_down == 1


def test_an_upload_that_does_not_end_falls_back_and_leaves_one_folder(wandb, run, tmp_path):
    wandb.late = TimeoutError("upload")
    assert Writer(tmp_path).write(run).warning is not None
    assert wandb.folders() == [f"offline-run-2-{run.id}"]


def test_what_is_wrong_here_sends_nobody_offline(wandb, run, tmp_path, monkeypatch):
    def damaged(*_):
        raise ValueError("damaged safetensors file")

    writer = Writer(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[Writer.__module__], "keep", damaged)
        reply = writer.write(run)
    assert (reply.state, reply.online) == ("failed", True)
    assert "damaged safetensors file" in reply.warning
    assert wandb.torn_down == 1  # or its id would stay in use
    assert writer.write(changed()).state == "written"
    assert wandb.modes() == ["online", "online"]


def test_an_offline_run_is_uploaded_when_there_is_a_login(wandb, run, tmp_path):
    wandb.mode = "offline"
    Writer(tmp_path).write(run)
    wandb.mode = "online"
    assert Writer(tmp_path).write(run).state == "written"
    assert wandb.folders() == [f"run-2-{run.id}"]


def test_an_uploaded_run_is_not_written_offline_again(wandb, run, tmp_path):
    Writer(tmp_path).write(run)
    wandb.mode = "offline"
    assert Writer(tmp_path).write(run).state == "same"


def test_what_cannot_be_written_is_failed_and_tried_again(wandb, run, tmp_path):
    wandb.mode, wandb.refuse = "offline", {"offline"}
    writer = Writer(tmp_path)
    reply = writer.write(run)
    assert reply.state == "failed"
    assert run.id in reply.warning
    wandb.refuse = None
    assert writer.write(run).state == "written"


def test_disabled_means_nothing_is_written(wandb, run, tmp_path):
    wandb.mode = "disabled"
    assert Writer(tmp_path).write(run).state == "disabled"
    assert wandb.calls == []


def test_copies_of_tables_are_kept_with_the_run(wandb, tmp_path, monkeypatch):
    seen = []
    initialise = wandb.init

    def init(**options):
        import os

        seen.append(os.environ["WANDB_DATA_DIR"])
        return initialise(**options)

    wandb.init = init
    content = of_board(board())
    Writer(tmp_path).write(content)
    assert seen == [str(Shelf(tmp_path).staging(content.id))]


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path)


def offline(shelf, run_id, number=1):
    folder = shelf.root / f"offline-run-{number}-{run_id}"
    folder.mkdir(parents=True)
    (folder / f"run-{run_id}.wandb").touch()
    return folder


def test_an_offline_run_is_there_while_its_folder_is(shelf):
    folder = offline(shelf, "a")
    assert not shelf.has("a", "d", "t", online=False)
    shelf.put("a", Entry("d", "t", False))
    assert shelf.has("a", "d", "t", online=False)
    assert not shelf.has("a", "d", "t", online=True)
    assert not shelf.has("a", "other", "t", online=False)
    assert not shelf.has("a", "d", "other", online=False)
    (folder / "run-a.wandb").unlink()
    assert not shelf.has("a", "d", "t", online=False)


def test_what_wandb_sync_has_uploaded_is_there(shelf):
    folder = offline(shelf, "a")
    shelf.put("a", Entry("d", "t", False))
    (folder / "run-a.wandb.synced").touch()
    assert shelf.has("a", "d", "t", online=True)


def test_all_folders_of_a_run_and_no_others_are_cleared(shelf):
    offline(shelf, "a")
    offline(shelf, "a", 2)
    kept = offline(shelf, "a-b")
    shelf.staging("a").mkdir(parents=True)
    shelf.clear("a")
    assert [path.name for path in shelf.root.glob("*run-*")] == [kept.name]
    assert not shelf.staging("a").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": {"digest": "d"}}', "\xff"])
def test_a_damaged_index_is_as_good_as_none(shelf, text, caplog):
    offline(shelf, "a")
    shelf.put("a", Entry("d", "t", False))
    (shelf.root / "mirrored.json").write_text(text, encoding="latin-1")
    assert not shelf.has("a", "d", "t", online=False)
    assert "mirrored again" in caplog.text
    shelf.put("a", Entry("d", "t", False))
    assert shelf.has("a", "d", "t", online=False)
