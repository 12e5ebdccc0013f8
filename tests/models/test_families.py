"""What a family may say of itself."""

from dataclasses import replace

import pytest

from fedbench.errors import ModelError
from fedbench.models.families import MODELS


def test_an_option_that_no_setting_has_is_refused_where_it_is_said():
    with pytest.raises(ModelError, match="takes an option 'dropout', which no setting has"):
        replace(MODELS.get("resnet8"), options={"width": 16, "dropout": 0.1})
