"""What is refused of a wish for one cell, by a look and before anything is imported."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from fedbench.bench.cells.runtime import Runtime
from fedbench.bench.memo import Memo
from fedbench.bench.suites.suite import nest
from fedbench.errors import DataError, SettingsError
from fedbench.session.cell import Wish, cell_of, check_wish


def wish(*settings, **places):
    places = {name.replace("__", "."): value for name, value in places.items()}
    over = [nest(*setting.split("=")) for setting in settings]
    return replace(Wish.of(places), over=over)


def test_all_that_is_missing_is_named_at_once(tmp_path):
    means = Runtime(tmp_path, tmp_path, offline=True)
    with pytest.raises(SettingsError, match="no method is named") as caught:
        check_wish(wish(data__name="folder"), means)
    assert "data: data set 'folder' needs `path`" in str(caught.value)
    with pytest.raises(DataError, match="nope is not there"):
        check_wish(wish("data.path=nope", data__name="folder", method__name="fedavg"), means)


@pytest.mark.parametrize(
    ("method", "local", "own"),
    [("fedavg", 5, 5), ("feddf", 5, 5), ("dense", 5, 200), ("fedlmg", 5, 30), ("local", 5, None)],
)
def test_epochs_are_the_clients_epochs(tmp_path, method, local, own):
    """Those of a server that distils are something else, and so are a method's of its own."""
    means = Runtime(tmp_path, tmp_path, offline=True)
    resnet = {"models__name": "resnet8", "models__width": 8, "budget__pixels": 25600}
    places = {"data__name": "digits", "data__train_size": 500, "recipe__epochs": local, **resnet}
    ways = (f"method.name={method}", f"method={method}")
    for asked in (wish(method__name=method, **places), *(wish(way, **places) for way in ways)):
        if "method" not in asked.tree:
            asked = replace(asked, tree={**asked.tree, "method": "local"})
        cell = cell_of(asked, means, Memo(means.home, ["test"]))
        assert (cell.recipe.epochs, getattr(cell.method, "epochs", None)) == (local, own)


@pytest.mark.parametrize(
    "method", [3, ["fedavg"], None, {"name": 3}, {"name": "fedavg", "preset": []}]
)
@pytest.mark.parametrize("epochs", [None, 2])
def test_what_is_no_method_is_a_clear_error(tmp_path, method, epochs):
    means = Runtime(tmp_path, tmp_path, offline=True)
    asked = wish(data__name="digits", **({"recipe__epochs": epochs} if epochs else {}))
    with pytest.raises(SettingsError, match=r"method"):
        cell_of(replace(asked, over=[{"method": method}]), means, Memo(means.home, ["test"]))


def test_the_look_imports_neither_torch_nor_pyarrow(tmp_path):
    (tmp_path / "flows.csv").write_text("bytes,proto,label\n1,tcp,a\n2,udp,b\n")
    code = (
        "import sys; from pathlib import Path; from fedbench.session.cell import Wish, check_wish; "
        "from fedbench.bench.cells.runtime import Runtime; root = Path(sys.argv[1]); "
        "data = {'name': 'flows', 'path': 'flows.csv'}; "
        "check_wish(Wish({'method': {'name': 'fedavg'}, 'data': data}, None, []), "
        "Runtime(root, root)); "
        "print([name for name in ('torch', 'numpy', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.strip() == "[]"
