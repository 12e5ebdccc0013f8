"""The methods: one file each, read top to bottom, and the table of all of them.

The files are imported when their methods are asked for, so this imports no torch.
"""

from __future__ import annotations

from typing import cast

from fedbench import config
from fedbench.federation.method import Method
from fedbench.registry import Registry

#: ``config.METHODS``, for those who run methods: a cell needs to know less of them.
METHODS = cast("Registry[type[Method]]", config.METHODS)
