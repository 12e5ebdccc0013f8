from fedbench.api.board import Board as Board
from fedbench.api.board import Drawing as Drawing
from fedbench.api.board import load as load
from fedbench.api.mine import register as register
from fedbench.api.running import CellError as CellError
from fedbench.api.running import cell as cell
from fedbench.api.running import run as run
from fedbench.api.running import sweep as sweep
from fedbench.api.sets import SharedSet as SharedSet
from fedbench.api.sets import load_set as load_set
from fedbench.bench.records.record import Record as Record
from fedbench.errors import FedbenchError as FedbenchError
from fedbench.errors import SettingsError as SettingsError
from fedbench.federation.method import Method as Method

__version__: str
__all__: list[str]
