"""The tables that plugins add to, and how they come to be as they were before."""

import sys

from fedbench.data.pictures import PICTURES
from fedbench.data.schemes import SCHEMES
from fedbench.data.specs import DATASETS
from fedbench.federation.resources import RESOURCES
from fedbench.methods import METHODS
from fedbench.models.families import MODELS

TABLES = (METHODS, DATASETS, MODELS, SCHEMES, RESOURCES, PICTURES)


def forget_plugins():
    """Take what plugin files brought out of the tables, and their modules out of memory."""
    for table in TABLES:
        for thing, module in list(table._brought.items()):
            if module.startswith("fedbench_plugin_"):
                table._loaded.pop(thing, None)
                del table._brought[thing]
    for module in [name for name in sys.modules if name.startswith("fedbench_plugin_")]:
        del sys.modules[module]
