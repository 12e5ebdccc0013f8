"""Files that have to outlive a power cut are on the disk before they are in their place."""

from pathlib import Path

from fedbench import files


def test_a_file_is_synced_with_its_folder(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(
        files.os,
        "fsync",
        lambda handle: synced.append(str(Path(f"/proc/self/fd/{handle}").readlink())),
    )
    files.write_atomic(tmp_path / "a", "x")
    assert synced == []
    files.write_atomic(tmp_path / "a", "y", durable=True)
    assert len(synced) == 2
    assert synced[0].endswith(".part")
    assert synced[1] == str(tmp_path)
    assert (tmp_path / "a").read_text() == "y"


def test_records_outputs_and_artefacts_are_synced(compute, monkeypatch):
    folders, write = set(), files.write_atomic

    def noted(path, content, *, durable=False):
        if durable:
            folders.add(path.parent.name)
        write(path, content, durable=durable)

    for module in (
        "bench.records.record",
        "federation.artefacts",
        "federation.synthetic",
    ):
        monkeypatch.setattr(f"fedbench.{module}.write_atomic", noted)
    compute("random_real", budget={"ipc": 1})
    compute("ensemble")
    assert folders == {"records", "outputs", "classifier"}
